package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"cartwright/internal/released"
	_ "cartwright/proto/cartpb"
	_ "cartwright/proto/cataloguepb"
	_ "cartwright/proto/checkoutpb"
	_ "cartwright/proto/faultpb"
	_ "cartwright/proto/inventorypb"
	_ "cartwright/proto/jobspb"
	_ "cartwright/proto/paymentspb"
)

// Every field, value and call that was ever released is still there, under its number, its name and its
// type. Each contract has a list, which is written once; what is new since then stands in
// the list of a later release.
func TestReleasedContractsOnlyGrow(t *testing.T) {
	t.Parallel()
	today := map[protoreflect.FullName][]string{}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(f.Package()), "cartwright.") {
			today[f.Package()] = append(today[f.Package()], contractOf(f)...)
		}
		return true
	})
	var files []string
	for contract, lines := range today {
		slices.Sort(lines)
		name := string(contract) + ".txt"
		files = append(files, name)
		was := strings.Split(strings.TrimSpace(string(released.File(t, name, []byte(strings.Join(lines, "\n")+"\n")))), "\n")
		for _, line := range was {
			if !slices.Contains(lines, line) {
				t.Errorf("%s no longer has: %s", contract, line)
			}
		}
	}
	if len(files) != 7 {
		t.Errorf("contracts are %v", files)
	}
	released.Whole(t, files...)
}

// contractOf lists what others may rely on.
func contractOf(f protoreflect.FileDescriptor) (lines []string) {
	for i := range f.Enums().Len() {
		values := f.Enums().Get(i).Values()
		for j := range values.Len() {
			lines = append(lines, fmt.Sprintf("value %s = %d", values.Get(j).FullName(), values.Get(j).Number()))
		}
	}
	for i := range f.Messages().Len() {
		fields := f.Messages().Get(i).Fields()
		for j := range fields.Len() {
			lines = append(lines, fieldOf(fields.Get(j)))
		}
	}
	for i := range f.Services().Len() {
		methods := f.Services().Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			lines = append(lines, fmt.Sprintf("call %s(%s) %s", m.FullName(), m.Input().FullName(), m.Output().FullName()))
		}
	}
	return lines
}

func fieldOf(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	switch {
	case f.IsMap():
		kind = fmt.Sprintf("map of %s to %s", f.MapKey().Kind(), f.MapValue().Kind())
	case f.Message() != nil:
		kind = string(f.Message().FullName())
	case f.Enum() != nil:
		kind = string(f.Enum().FullName())
	}
	return fmt.Sprintf("field %s = %d %s %s", f.FullName(), f.Number(), f.Cardinality(), kind)
}
