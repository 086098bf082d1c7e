-- +goose Up
-- A reservation has its lines in its own row: that is one insert a checkout, and one read tells what
-- was promised and how far it has come. counted is what a line took from the shelf: its quantity, or
-- 0 if the product was infinite then.
ALTER TABLE reservations ADD COLUMN contents MEDIUMBLOB NULL;

UPDATE reservations r
SET    r.contents = COALESCE((
         SELECT JSON_ARRAYAGG(JSON_OBJECT('product', l.product_id, 'quantity', l.quantity, 'counted', l.counted))
         FROM   reservation_lines l
         WHERE  l.reservation_id = r.reservation_id), '[]');

ALTER TABLE reservations
  MODIFY COLUMN contents MEDIUMBLOB NOT NULL,
  ADD CONSTRAINT reservation_promises_something CHECK (state = 'released' OR contents <> '[]');

DROP TABLE reservation_lines;

-- +goose Down
CREATE TABLE reservation_lines (
  reservation_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  product_id     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  quantity       BIGINT      NOT NULL,
  counted        BIGINT      NOT NULL,
  PRIMARY KEY (reservation_id, product_id),
  CONSTRAINT reservation_line_quantity CHECK (quantity > 0),
  CONSTRAINT reservation_line_counted CHECK (counted = 0 OR counted = quantity)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO reservation_lines (reservation_id, product_id, quantity, counted)
SELECT r.reservation_id, l.product_id, l.quantity, l.counted
FROM   reservations r
JOIN   JSON_TABLE(CONVERT(r.contents USING utf8mb4), '$[*]' COLUMNS (
         product_id VARCHAR(64) PATH '$.product',
         quantity   BIGINT      PATH '$.quantity',
         counted    BIGINT      PATH '$.counted')) l ON TRUE;

ALTER TABLE reservations DROP CONSTRAINT reservation_promises_something;

ALTER TABLE reservations DROP COLUMN contents;
