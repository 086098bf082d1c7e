-- +goose Up
-- What happened to checkouts that did not go straight to their end: why one waits, each time for
-- another reason than before, why it was turned round, and what people did with it. Rows are added
-- in the transaction of what they tell of, and never changed.
CREATE TABLE checkout_history (
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  checkout_id VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  event       VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  done_by     VARCHAR(64)  NOT NULL,
  note        VARCHAR(500) NOT NULL,
  happened_at DATETIME(6)  NOT NULL,
  KEY of_checkout (checkout_id, id),
  CONSTRAINT checkout_event CHECK (event IN ('waits', 'turned', 'resumed'))
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE checkout_history;
