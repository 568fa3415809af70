CREATE TABLE things (
    id     integer PRIMARY KEY,
    status text NOT NULL,
    note   text,
    stamp  timestamp
);
CREATE TABLE parts (
    id       integer PRIMARY KEY,
    thing_id integer NOT NULL,
    label    text,
    box_id   integer
);
CREATE TABLE pieces (
    id      integer PRIMARY KEY,
    part_id integer NOT NULL,
    weight  numeric(12,3)
);
CREATE TABLE items (
    thing_id integer NOT NULL,
    no       integer NOT NULL,
    amount   numeric(12,3),
    PRIMARY KEY (thing_id, no)
);
CREATE TABLE memos (
    id       integer PRIMARY KEY,
    thing_id integer,
    body     text
);
CREATE TABLE boxes (
    id   integer PRIMARY KEY,
    fill integer NOT NULL,
    seal text
);
CREATE TABLE scans (
    id     integer PRIMARY KEY,
    box_id integer NOT NULL,
    by     text
);
