-- +goose Up
-- What is on the shelves. Kind infinite is never counted: on_hand and reserved stay as they are.
CREATE TABLE stock (
  product_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  kind       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  on_hand    BIGINT      NOT NULL,
  reserved   BIGINT      NOT NULL,
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  CONSTRAINT stock_kind CHECK (kind IN ('finite', 'infinite')),
  CONSTRAINT stock_reserved_from_zero CHECK (reserved >= 0),
  CONSTRAINT stock_reserved_up_to_on_hand CHECK (reserved <= on_hand)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- A promise of stock. The row stays for good: 'released' is the tombstone that refuses a Reserve
-- that comes after its Rollback. expires_at is NULL once the promise cannot lapse any more, so
-- that the sweeper's index holds only what is held.
CREATE TABLE reservations (
  reservation_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  state          VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  expires_at     DATETIME(6) NULL,
  created_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  KEY lapses (expires_at),
  CONSTRAINT reservation_state CHECK (state IN ('held', 'sold', 'released')),
  CONSTRAINT reservation_held_expires CHECK ((state = 'held') = (expires_at IS NOT NULL))
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What was promised. counted is what the line took from the shelf: quantity for a finite
-- product, 0 for an infinite one, even if the product's kind is changed later.
CREATE TABLE reservation_lines (
  reservation_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  product_id     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  quantity       BIGINT      NOT NULL,
  counted        BIGINT      NOT NULL,
  PRIMARY KEY (reservation_id, product_id),
  CONSTRAINT reservation_line_quantity CHECK (quantity > 0),
  CONSTRAINT reservation_line_counted CHECK (counted = 0 OR counted = quantity)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Append-only: every change of on_hand, so that received = on hand + sold can be proved. The key
-- says it too: a reservation can be sold once and returned once, an adjustment made once.
CREATE TABLE stock_movements (
  reference  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  product_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  kind       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  delta      BIGINT      NOT NULL,
  created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (reference, product_id, kind),
  CONSTRAINT movement_kind CHECK (kind IN ('adjusted', 'sold', 'returned'))
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
DROP TABLE stock_movements;
DROP TABLE reservation_lines;
DROP TABLE reservations;
DROP TABLE stock;
