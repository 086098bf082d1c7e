package inventory

import (
	"context"
	"fmt"

	"cartwright/internal/groupcommit"
	"cartwright/internal/store"
)

// look answers a batch of questions about stock with one query. All of them get the same answer,
// the shelves of every product that anybody asked for, and only read it.
func (b books) look(ctx context.Context, questions [][]string) ([]groupcommit.Result[map[string]shelf], error) {
	wanted := names{}
	for _, products := range questions {
		for _, p := range products {
			wanted[p] = true
		}
	}
	shelves, err := readShelves(ctx, b.db, wanted, "")
	if err != nil {
		return nil, fmt.Errorf("stock: %w", store.Classify(err))
	}
	answers := make([]groupcommit.Result[map[string]shelf], len(questions))
	for i := range answers {
		answers[i].Value = shelves
	}
	return answers, nil
}
