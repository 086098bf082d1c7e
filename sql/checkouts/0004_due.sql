-- +goose Up
-- A placed order is finished: nothing is left to do for its cart.
UPDATE orders SET due_at = NULL WHERE state = 'placed';

ALTER TABLE orders DROP CONSTRAINT order_unfinished_is_due;

ALTER TABLE orders ADD CONSTRAINT order_due_is_unfinished CHECK ((state IN ('placing', 'undoing')) = (due_at IS NOT NULL));

-- +goose Down
ALTER TABLE orders DROP CONSTRAINT order_due_is_unfinished;

ALTER TABLE orders ADD CONSTRAINT order_unfinished_is_due CHECK (state NOT IN ('placing', 'undoing') OR due_at IS NOT NULL);
