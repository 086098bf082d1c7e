package released

import (
	"encoding/json"
	"slices"
	"testing"
)

// What is taken away or says another thing is found; what is added is not complained about.
func TestADocumentThatSaysLessIsFound(t *testing.T) {
	t.Parallel()
	const was = `{"type":"order.created","time":"2026-11-21T11:00:00Z","data":{"total":700,"items":[{"productId":"tea","quantity":2}],"paid":true}}`
	for _, c := range []struct {
		is   string
		want []string
	}{
		{`{"type":"order.created","time":"2027-01-01T00:00:00.5Z","new":1,"data":{"total":700,"items":[{"productId":"tea","quantity":2,"price":350}],"paid":true}}`, nil},
		{`{"time":"2026-11-21T11:00:00Z","data":{"total":700,"items":[{"productId":"tea","quantity":2}],"paid":true}}`, []string{".type is gone"}},
		{`{"type":"order.created","time":"now","data":{"total":7,"items":[{"product":"tea","quantity":"2"}],"paid":true}}`, []string{
			".data.items[0].productId is gone", ".data.items[0].quantity was 2 and is 2", ".data.total was 700 and is 7", ".time was 2026-11-21T11:00:00Z and is now"}},
		{`{"type":"order.created","time":"2026-11-21T11:00:00Z","data":{"total":700,"items":[],"paid":null}}`, []string{
			".data.items was a list of 1 and is []", ".data.paid was true and is <nil>"}},
		{`{"type":"order.created","time":"2026-11-21T11:00:00Z","data":[]}`, []string{".data was an object and is []"}},
	} {
		var before, now any
		if err := json.Unmarshal([]byte(was), &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.is), &now); err != nil {
			t.Fatal(err)
		}
		got := missing("", before, now)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.is, got, c.want)
		}
	}
}
