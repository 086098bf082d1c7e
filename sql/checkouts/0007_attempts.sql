-- +goose Up
-- How often a checkout was left to be tried again later, and why the last time.
ALTER TABLE orders
  ADD COLUMN attempts   INT          NOT NULL DEFAULT 0,
  ADD COLUMN last_error VARCHAR(500) NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE orders
  DROP COLUMN attempts,
  DROP COLUMN last_error;
