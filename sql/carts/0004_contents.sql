-- +goose Up
-- A freeze has its lines in its own row, for good: that is one insert a checkout, and nothing has to
-- be forgotten afterwards.
ALTER TABLE freezes ADD COLUMN contents MEDIUMBLOB NULL;

UPDATE freezes f
SET    f.contents = COALESCE((
         SELECT JSON_ARRAYAGG(JSON_OBJECT('product', l.product_id, 'name', l.name, 'quantity', l.quantity, 'price', l.unit_price_minor, 'currency', l.currency))
         FROM   frozen_lines l
         WHERE  l.checkout_id = f.checkout_id), '[]');

UPDATE freezes SET state = 'frozen' WHERE state = 'settled';

ALTER TABLE freezes DROP CONSTRAINT freeze_state;

ALTER TABLE freezes
  MODIFY COLUMN contents MEDIUMBLOB NOT NULL,
  ADD CONSTRAINT freeze_state CHECK (state IN ('frozen', 'thawed')),
  ADD CONSTRAINT freeze_thawed_is_empty CHECK (state <> 'thawed' OR contents = '[]');

DROP TABLE frozen_lines;

-- +goose Down
CREATE TABLE frozen_lines (
  checkout_id      VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  product_id       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  name             VARCHAR(200) NOT NULL,
  quantity         BIGINT       NOT NULL,
  unit_price_minor BIGINT       NOT NULL,
  currency         CHAR(3)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  PRIMARY KEY (checkout_id, product_id),
  CONSTRAINT frozen_line_quantity CHECK (quantity > 0),
  CONSTRAINT frozen_line_price CHECK (unit_price_minor >= 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO frozen_lines (checkout_id, product_id, name, quantity, unit_price_minor, currency)
SELECT f.checkout_id, l.product_id, l.name, l.quantity, l.unit_price_minor, l.currency
FROM   freezes f
JOIN   JSON_TABLE(CONVERT(f.contents USING utf8mb4), '$[*]' COLUMNS (
         product_id       VARCHAR(64)  PATH '$.product',
         name             VARCHAR(200) PATH '$.name',
         quantity         BIGINT       PATH '$.quantity',
         unit_price_minor BIGINT       PATH '$.price',
         currency         CHAR(3)      PATH '$.currency')) l ON TRUE;

ALTER TABLE freezes DROP CONSTRAINT freeze_thawed_is_empty;

ALTER TABLE freezes DROP CONSTRAINT freeze_state;

ALTER TABLE freezes
  DROP COLUMN contents,
  ADD CONSTRAINT freeze_state CHECK (state IN ('frozen', 'thawed', 'settled'));
