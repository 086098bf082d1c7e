-- +goose Up
-- A checkout has an ID of its own, in the order of time, under which all promises to it are made: rows are
-- added at the end of every table. What customers know it by is order_id still, in one index. The
-- promises to checkouts that are there were made under order_id, so that is their ID.
ALTER TABLE orders ADD COLUMN checkout_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' FIRST;

UPDATE orders SET checkout_id = order_id;

ALTER TABLE orders
  ALTER COLUMN checkout_id DROP DEFAULT,
  DROP PRIMARY KEY,
  ADD PRIMARY KEY (checkout_id),
  ADD UNIQUE KEY order_id (order_id),
  DROP KEY client_orders,
  ADD KEY client_orders (client_id, created_at, checkout_id);

ALTER TABLE order_lines RENAME COLUMN order_id TO checkout_id;

-- +goose Down
-- Lines go back to their orders' IDs. What others have promised to newer checkouts stays under IDs that
-- nobody knows then: let all checkouts end before, and look into those orders' books by hand.
UPDATE order_lines l
JOIN   orders o ON o.checkout_id = l.checkout_id
SET    l.checkout_id = o.order_id
WHERE  o.order_id <> o.checkout_id;

ALTER TABLE order_lines RENAME COLUMN checkout_id TO order_id;

ALTER TABLE orders
  DROP KEY client_orders,
  ADD KEY client_orders (client_id, created_at, order_id),
  DROP KEY order_id,
  DROP PRIMARY KEY,
  ADD PRIMARY KEY (order_id),
  DROP COLUMN checkout_id;
