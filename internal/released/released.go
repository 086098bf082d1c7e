// Package released holds a version of the program to what earlier ones have said. Each kind of message
// and event has a file under testdata/released of the package that says it, written once, when the kind
// was new, and never again: `go test <package> -run Released -update` writes only those that are missing.
// A test that fails here means that a shop which is being upgraded, or somebody who listens to it, would
// not understand.
package released

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"cartwright/internal/outbox"
)

var update = flag.Bool("update", false, "write testdata/released for kinds that have no file yet")

// Dir is where the files of a package are.
const Dir = "testdata/released"

// File returns a released file; today's words when there is none yet and it is to be written.
func File(t testing.TB, name string, today []byte) []byte {
	t.Helper()
	path := filepath.Join(Dir, name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		text, err = today, errors.Join(os.MkdirAll(Dir, 0o755), os.WriteFile(path, today, 0o644))
	}
	if err != nil {
		t.Fatalf("%v: is it a new kind? go test . -run Released -update writes its file; a released one stays", err)
	}
	return text
}

// Whole fails when a released file belongs to no kind that is still known.
func Whole(t testing.TB, names ...string) {
	t.Helper()
	files, err := os.ReadDir(Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(names, f.Name()) {
			t.Errorf("%s/%s: nothing of this kind is known any more", Dir, f.Name())
		}
	}
}

// Message holds the bytes of a released message to what today's read of them: all that they said, in
// fields of the same names, and nothing that is not understood. said is the message as it was meant, of
// the type that reads it.
func Message(t testing.TB, name string, said proto.Message) {
	t.Helper()
	today, err := proto.MarshalOptions{Deterministic: true}.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	raw := File(t, name+".pb", today)
	read := said.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(raw, read); err != nil {
		t.Fatalf("%s cannot be read any more: %v", name, err)
	}
	if !proto.Equal(read, said) {
		t.Errorf("%s reads %v, and said %v", name, read, said)
	}
	told, err := protojson.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	Document(t, name+".json", told)
}

// Event holds the CloudEvent of an event to the one of that type which was released: every member is
// there and says the same in the same way. Times differ; new members may be added.
func Event(t testing.TB, source string, e outbox.Event) {
	t.Helper()
	data, err := json.Marshal(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	saved := outbox.Saved{
		ID: "0b1f4a56-7c7b-4c5e-9a57-000000000001", Type: e.Type, Subject: e.Subject, Data: data,
		Time: time.UnixMicro(1_760_000_000_123_456), Sequence: "00000000000000000007.000001",
	}
	told, err := outbox.Relay{Source: source}.CloudEvent(saved)
	if err != nil {
		t.Fatal(err)
	}
	Document(t, e.Type+".json", told.Body)
}

// Document holds a JSON document to a released one.
func Document(t testing.TB, name string, today []byte) {
	t.Helper()
	var was, is any
	if err := json.Unmarshal(today, &is); err != nil {
		t.Fatalf("%s: %v in %s", name, err, today)
	}
	if err := json.Unmarshal(File(t, name, today), &was); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, difference := range missing("", was, is) {
		t.Errorf("%s: %s", name, difference)
	}
}

// missing lists what a document no longer says as it did.
func missing(path string, was, is any) (all []string) {
	switch was := was.(type) {
	case map[string]any:
		now, same := is.(map[string]any)
		if !same {
			return []string{fmt.Sprintf("%s was an object and is %v", path, is)}
		}
		for name, value := range was {
			member, has := now[name]
			if !has {
				all = append(all, fmt.Sprintf("%s.%s is gone", path, name))
				continue
			}
			all = append(all, missing(path+"."+name, value, member)...)
		}
		return all
	case []any:
		now, same := is.([]any)
		if !same || len(now) != len(was) {
			return []string{fmt.Sprintf("%s was a list of %d and is %v", path, len(was), is)}
		}
		for i := range was {
			all = append(all, missing(fmt.Sprintf("%s[%d]", path, i), was[i], now[i])...)
		}
		return all
	}
	if was != is && !bothTimes(was, is) {
		return []string{fmt.Sprintf("%s was %v and is %v", path, was, is)}
	}
	return nil
}

func bothTimes(was, is any) bool {
	for _, v := range []any{was, is} {
		text, _ := v.(string)
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
			return false
		}
	}
	return true
}
