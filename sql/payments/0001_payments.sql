-- +goose Up
-- One row per payment, made before any money moves. 'cancelled' is the tombstone that refuses a
-- Charge that comes after its Refund; 'cancelling' means
-- that the way back has begun and the provider has not confirmed it yet.
CREATE TABLE payments (
  payment_id   VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  amount_minor BIGINT       NOT NULL,
  currency     VARCHAR(3)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  method       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  provider     VARCHAR(32)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state        VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  provider_ref VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  reason_code  VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  reason       VARCHAR(500) NOT NULL DEFAULT '',
  created_at   DATETIME(6)  NOT NULL,
  updated_at   DATETIME(6)  NOT NULL,
  CONSTRAINT payment_amount CHECK (amount_minor >= 0),
  CONSTRAINT payment_state CHECK (state IN ('initiated', 'charged', 'declined', 'cancelling', 'cancelled', 'refunded'))
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The books of the test provider, which plays a payment company: nothing else in the shop reads
-- them, except verify, which compares them with ours.
CREATE TABLE test_provider_charges (
  idempotency_key VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  amount_minor    BIGINT      NOT NULL,
  currency        VARCHAR(3)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  method          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  outcome         VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  refunded_minor  BIGINT      NOT NULL DEFAULT 0,
  created_at      DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  CONSTRAINT test_charge_outcome CHECK (outcome IN ('charged', 'declined', 'cancelled')),
  CONSTRAINT test_charge_refunded CHECK (refunded_minor BETWEEN 0 AND amount_minor)
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
DROP TABLE test_provider_charges;
DROP TABLE payments;
