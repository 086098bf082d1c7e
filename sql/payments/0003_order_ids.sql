-- +goose Up
-- What a payment is for, as customers know it; its own ID is the checkout's. Empty for a tombstone.
ALTER TABLE payments ADD COLUMN order_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' AFTER payment_id;

UPDATE payments SET order_id = payment_id WHERE amount_minor > 0;

-- +goose Down
ALTER TABLE payments DROP COLUMN order_id;
