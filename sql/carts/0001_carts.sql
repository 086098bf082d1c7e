-- +goose Up
-- One row per cart: the lock that every change of the cart takes first.
CREATE TABLE carts (
  client_id  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  version    BIGINT      NOT NULL,
  updated_at DATETIME(6) NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- position is the cart's version at which the line came in, so that a cart reads in that order.
CREATE TABLE cart_lines (
  client_id  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  product_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  quantity   BIGINT      NOT NULL,
  position   BIGINT      NOT NULL,
  PRIMARY KEY (client_id, product_id),
  CONSTRAINT cart_line_quantity CHECK (quantity > 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What a checkout did to a cart. The row stays for good: 'thawed' is the tombstone that refuses
-- a freeze that comes after its thaw.
CREATE TABLE freezes (
  checkout_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  client_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  updated_at  DATETIME(6) NOT NULL,
  CONSTRAINT freeze_state CHECK (state IN ('frozen', 'thawed', 'settled'))
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Lines that have left a cart for a checkout, with name and price of that moment. Gone once the
-- checkout has ended, either way.
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

-- Cart jobs that were done, each saved with its change: a job that is delivered twice finds its
-- answer here. fault is NULL for a success. Pruned after 24 hours.
CREATE TABLE processed_jobs (
  job_id       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  request_hash BINARY(32)  NOT NULL,
  fault        BLOB        NULL,
  done_at      DATETIME(6) NOT NULL,
  KEY pruned_by (done_at)
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
DROP TABLE processed_jobs;
DROP TABLE frozen_lines;
DROP TABLE freezes;
DROP TABLE cart_lines;
DROP TABLE carts;
