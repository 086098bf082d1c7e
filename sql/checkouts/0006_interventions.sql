-- +goose Up
-- What people did by hand with the dead letters of a queue whose jobs are done on this database: each
-- one that was replayed or dropped, by whom and when. Rows are added before the deed and never
-- changed: after a crash there may be one for a deed that was not done, and no deed is without one.
CREATE TABLE interventions (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  queue      VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  deed       VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  message_id VARCHAR(255) NOT NULL,
  kind       VARCHAR(255) NOT NULL,
  reason     VARCHAR(500) NOT NULL,
  done_by    VARCHAR(64)  NOT NULL,
  done_at    DATETIME(6)  NOT NULL,
  CONSTRAINT intervention_deed CHECK (deed IN ('replay', 'drop'))
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE interventions;
