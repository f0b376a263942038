-- What PostgreSQL 18 knows and older ones do not, used as it should be: nothing may be found, but for what "-- !" says.
CREATE EXTENSION btree_gist;
CREATE SCHEMA temporal;
-- A primary key and a unique key over time, and foreign keys over time.
CREATE TABLE temporal.price (product int, valid_at daterange, cents int, CONSTRAINT price_pk PRIMARY KEY (product, valid_at WITHOUT OVERLAPS));
CREATE TABLE temporal.lease (room int NOT NULL, valid_at tstzrange NOT NULL, id uuid PRIMARY KEY DEFAULT uuidv7(), UNIQUE (room, valid_at WITHOUT OVERLAPS));
CREATE TABLE temporal.discount (id int, product int, valid_at daterange, PRIMARY KEY (id, valid_at WITHOUT OVERLAPS),
  CONSTRAINT discount_price FOREIGN KEY (product, PERIOD valid_at) REFERENCES temporal.price (product, PERIOD valid_at));
CREATE INDEX ON temporal.discount (product);
-- ! info foreign-key-without-index:temporal.rebate.rebate_price
CREATE TABLE temporal.rebate (id int PRIMARY KEY, product int, valid_at daterange,
  CONSTRAINT rebate_price FOREIGN KEY (product, PERIOD valid_at) REFERENCES temporal.price (product, PERIOD valid_at));

CREATE SCHEMA columns;
-- Virtual columns take no room, are never analysed, and are constant for nobody.
CREATE TABLE columns.virtual (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2), one int GENERATED ALWAYS AS (1) VIRTUAL, stored int GENERATED ALWAYS AS (2) STORED);
INSERT INTO columns.virtual SELECT g, g FROM generate_series(1, 20000) g;
-- NOT NULL is a constraint with a name; one that was never validated is found, and only where it was said.
CREATE TABLE columns.named (id int PRIMARY KEY, a int CONSTRAINT a_is_there NOT NULL, b int);
-- ! warning constraint-not-validated:columns.named.b_is_there
ALTER TABLE columns.named ADD CONSTRAINT b_is_there NOT NULL b NOT VALID;
CREATE TABLE columns.parted (id int NOT NULL, a int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE columns.parted_1 PARTITION OF columns.parted FOR VALUES FROM (0) TO (10);
CREATE TABLE columns.parted_2 PARTITION OF columns.parted FOR VALUES FROM (10) TO (20);
-- ! warning constraint-not-validated:columns.parted.a_is_there
ALTER TABLE columns.parted ADD CONSTRAINT a_is_there NOT NULL a NOT VALID;
CREATE TABLE columns.mother (id int PRIMARY KEY, a int);
CREATE TABLE columns.daughter (PRIMARY KEY (id)) INHERITS (columns.mother);
-- A key whose columns may hold NULLs of old is no total one.
-- ! warning no-primary-key:columns.half
CREATE TABLE columns.half (a int UNIQUE);
-- ! warning constraint-not-validated:columns.half.there
ALTER TABLE columns.half ADD CONSTRAINT there NOT NULL a NOT VALID;

CREATE SCHEMA keys;
CREATE TABLE keys.parent (id int PRIMARY KEY);
-- What is not enforced looks nothing up.
CREATE TABLE keys.child (id int PRIMARY KEY, parent int REFERENCES keys.parent NOT ENFORCED, CHECK (parent > 0) NOT ENFORCED);
CREATE TABLE keys.late (id int, parent int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE keys.late_1 PARTITION OF keys.late FOR VALUES FROM (0) TO (10);
CREATE INDEX ON keys.late (parent);
-- ! warning constraint-not-validated:keys.late.late_parent
ALTER TABLE keys.late ADD CONSTRAINT late_parent FOREIGN KEY (parent) REFERENCES keys.parent NOT VALID;

-- A scan can skip over the first column: that changes nothing about which index is which.
CREATE SCHEMA skip;
CREATE TABLE skip.t (id int PRIMARY KEY, few int, many int);
CREATE INDEX t_few_many ON skip.t (few, many);
-- ! info redundant-index:skip.t.t_many
CREATE INDEX t_many ON skip.t (many);
-- ! info redundant-index:skip.t.t_few
CREATE INDEX t_few ON skip.t (few);
CREATE UNIQUE INDEX t_nulls ON skip.t (many, few) NULLS NOT DISTINCT;
CREATE UNIQUE INDEX t_nulls_distinct ON skip.t (many, few);
CREATE TABLE skip.identity (id int GENERATED ALWAYS AS IDENTITY, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE skip.identity_1 PARTITION OF skip.identity FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
-- ! info no-primary-key:skip.nulls
CREATE TABLE skip.nulls (a int NOT NULL);
CREATE UNIQUE INDEX nulls_a ON skip.nulls (a) NULLS NOT DISTINCT;
