package tests

import (
	"bytes"
	"os"
	"testing"

	"cartwright/internal/failpoint"
	"cartwright/internal/mutation"
)

// The program that people run has nothing in it that can break it.
func TestReleasesCannotBeBroken(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile(build(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	words := []string{failpoint.Folder, "internal/failpoint.Hit", "internal/failpoint.take", mutation.Variable, "internal/mutation.On"}
	for _, p := range failpoint.Points() {
		words = append(words, string(p))
	}
	for _, m := range mutation.Mutations() {
		words = append(words, string(m))
	}
	for _, word := range words {
		if bytes.Contains(program, []byte(word)) {
			t.Errorf("the program says %q", word)
		}
	}
}
