-- +goose Up
-- Each pause and each resume of a queue whose jobs are done on this database, added and never
-- changed: the newest row of a queue says whether it is paused, all of them who did what when. The
-- turns of a queue are numbered from 1, and every other one is a pause, so nothing is paused twice.
CREATE TABLE pauses (
  queue      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  turn       INT         NOT NULL,
  paused     BOOLEAN     NOT NULL,
  changed_by VARCHAR(64) NOT NULL,
  changed_at DATETIME(6) NOT NULL,
  PRIMARY KEY (queue, turn),
  CONSTRAINT pause_and_resume_in_turn CHECK (turn > 0 AND paused = MOD(turn, 2))
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE pauses;
