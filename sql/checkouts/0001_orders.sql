-- +goose Up
-- A checkout and the order it becomes are one row under one ID. state is the saga's only memory:
-- every change of it is guarded by the state it starts from, so of two workers on one checkout
-- exactly one decides. due_at is when rescue looks at it; NULL once nothing is left to do, so that
-- the index holds only what is unfinished. A placed order is unfinished until its cart is settled.
CREATE TABLE orders (
  order_id       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  client_id      VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  request_hash   BINARY(32)   NOT NULL,
  payment_method VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  email          VARCHAR(254) NOT NULL,
  state          VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  reason_code    VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  reason         VARCHAR(500) NOT NULL DEFAULT '',
  total_minor    BIGINT       NOT NULL DEFAULT 0,
  currency       VARCHAR(3)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  created_at     DATETIME(6)  NOT NULL,
  updated_at     DATETIME(6)  NOT NULL,
  due_at         DATETIME(6)  NULL,
  KEY client_orders (client_id, created_at, order_id),
  KEY due (due_at),
  CONSTRAINT order_state CHECK (state IN ('placing', 'undoing', 'placed', 'failed')),
  CONSTRAINT order_unfinished_is_due CHECK (state NOT IN ('placing', 'undoing') OR due_at IS NOT NULL),
  CONSTRAINT order_total CHECK (total_minor >= 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Written when the checkout ends, with the catalogue's names and prices of the freeze.
CREATE TABLE order_lines (
  order_id         VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  product_id       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  name             VARCHAR(200) NOT NULL,
  quantity         BIGINT       NOT NULL,
  unit_price_minor BIGINT       NOT NULL,
  PRIMARY KEY (order_id, product_id),
  CONSTRAINT order_line_quantity CHECK (quantity > 0),
  CONSTRAINT order_line_price CHECK (unit_price_minor >= 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Events that were saved with what they tell of, and wait for the relay to publish them in order.
CREATE TABLE outbox (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_id   VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  type       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  subject    VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  data       MEDIUMBLOB   NOT NULL,
  created_at DATETIME(6)  NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE outbox;
DROP TABLE order_lines;
DROP TABLE orders;
