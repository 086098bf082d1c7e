package bench

import (
	"testing"

	"cartwright/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
