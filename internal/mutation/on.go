//go:build mutations

package mutation

import "os"

// On tells whether a mechanism is taken away.
func On(m Mutation) bool { return os.Getenv(Variable) == string(m) }
