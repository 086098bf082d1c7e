-- +goose Up
-- A row has all events of one transaction, and not one: that is one insert and one delete for
-- hundreds of events.
UPDATE outbox
SET    data = CONCAT('[{"id":', JSON_QUOTE(event_id), ',"type":', JSON_QUOTE(type), ',"subject":', JSON_QUOTE(subject), ',"data":', data, '}]');

ALTER TABLE outbox
  DROP COLUMN event_id,
  DROP COLUMN type,
  DROP COLUMN subject,
  CHANGE COLUMN data events MEDIUMBLOB NOT NULL;

-- +goose Down
CREATE TABLE outbox_events (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_id   VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  type       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  subject    VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  data       MEDIUMBLOB   NOT NULL,
  created_at DATETIME(6)  NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO outbox_events (event_id, type, subject, data, created_at)
SELECT   e.event_id, e.type, e.subject, e.data, sheet.created_at
FROM     outbox sheet
JOIN     JSON_TABLE(CONVERT(sheet.events USING utf8mb4), '$[*]' COLUMNS (
           position FOR ORDINALITY,
           event_id VARCHAR(64) PATH '$.id',
           type     VARCHAR(64) PATH '$.type',
           subject  VARCHAR(64) PATH '$.subject',
           data     JSON        PATH '$.data')) e ON TRUE
ORDER BY sheet.id, e.position;

DROP TABLE outbox;

ALTER TABLE outbox_events RENAME TO outbox;
