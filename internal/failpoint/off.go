//go:build !failpoints

package failpoint

// Hit marks a step. Its error, if there is one, stands for the answer that got lost.
func Hit(Point) error { return nil }

// After marks the step that follows when err is nil. It returns err, or what Hit returns.
func After(err error, _ Point) error { return err }

// Cut is Hit on a link: the answer that gets lost takes the link with it.
func Cut(Point, any) error { return nil }
