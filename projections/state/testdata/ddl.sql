CREATE TABLE "shipping_v1"."ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt" (
	"order" integer NOT NULL,
	"ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" text
) WITH (fillfactor = 80);
COMMENT ON COLUMN "shipping_v1"."ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt"."ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" IS '''; DROP TABLE customers; --';
CREATE TABLE "shipping_v1"."wide" (
	"region" text COLLATE "C" NOT NULL,
	"number" integer NOT NULL,
	"price_key" numeric NOT NULL,
	"a_smallint" smallint,
	"a_bigint" bigint,
	"a_numeric" numeric,
	"a_price" numeric(12,3),
	"a_large" numeric(40,20),
	"a_bool" boolean,
	"a_text" text,
	"a_varchar" character varying(12),
	"a_uuid" uuid,
	"a_date" date,
	"a_timestamp" timestamp without time zone,
	"a_timestamptz" timestamp with time zone,
	"a_json" json,
	"a_jsonb" jsonb,
	"a_bytea" bytea,
	"a_real" real,
	"a_double" double precision
) WITH (fillfactor = 80);
CREATE TABLE "shipping_v1"."customers" (
	"id" text COLLATE "C" NOT NULL,
	"name" text,
	"orders" bigint NOT NULL,
	"seen" timestamp with time zone
) WITH (fillfactor = 80);
COMMENT ON TABLE "shipping_v1"."customers" IS E'it''s the "customers" \\ copy';
COMMENT ON COLUMN "shipping_v1"."customers"."id" IS 'the shop''s number';
CREATE TABLE "shipping_v1"."marks" (
	"day" date NOT NULL,
	"code" bytea NOT NULL
) WITH (fillfactor = 80);
ALTER TABLE "shipping_v1"."ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt" ADD PRIMARY KEY ("order");
ALTER TABLE "shipping_v1"."wide" ADD PRIMARY KEY ("region", "number", "price_key");
ALTER TABLE "shipping_v1"."customers" ADD PRIMARY KEY ("id");
ALTER TABLE "shipping_v1"."marks" ADD PRIMARY KEY ("code", "day");
CREATE UNIQUE INDEX ON "shipping_v1"."ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt" ("ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc");
CREATE INDEX ON "shipping_v1"."ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt" ("ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", "order");
ANALYZE "shipping_v1"."ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt";
CREATE INDEX ON "shipping_v1"."wide" ("a_bigint");
ANALYZE "shipping_v1"."wide";
ANALYZE "shipping_v1"."customers";
ANALYZE "shipping_v1"."marks";
DROP TABLE IF EXISTS "shipping_v1"."ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt";
DROP TABLE IF EXISTS "shipping_v1"."wide";
DROP TABLE IF EXISTS "shipping_v1"."customers";
DROP TABLE IF EXISTS "shipping_v1"."marks";
