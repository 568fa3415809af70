-- The shop's one schema. `legacy-shop serve` runs this file, in one
-- transaction, when the table orders is absent, and never touches it again.
--
-- It is an old schema on purpose: money without a currency, times without a
-- zone (they are business time, meant as UTC), statuses as text without a
-- check, foreign keys that may be empty.

CREATE TABLE IF NOT EXISTS customers (
    id            serial PRIMARY KEY,
    customer_no   text UNIQUE,              -- the number printed on paper; accounts opened on the web have none
    name          text NOT NULL,
    email         text UNIQUE,
    phone         text,
    password_hash text,                     -- empty for accounts that staff opened
    country       text NOT NULL,
    newsletter    boolean NOT NULL DEFAULT false,
    registered_at timestamp NOT NULL,
    updated_at    timestamp NOT NULL,
    deleted_at    timestamp
);

CREATE TABLE IF NOT EXISTS addresses (
    id          serial PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers (id),
    kind        text NOT NULL,              -- billing, shipping
    street      text NOT NULL,
    city        text NOT NULL,
    postcode    text NOT NULL,
    country     text NOT NULL,
    valid_from  timestamp NOT NULL
);
CREATE INDEX IF NOT EXISTS addresses_customer ON addresses (customer_id);

CREATE TABLE IF NOT EXISTS products (
    id            serial PRIMARY KEY,
    stock_code    text NOT NULL UNIQUE,
    description   text NOT NULL,
    stock         integer NOT NULL,
    price         numeric(12,3) NOT NULL,   -- the list price of one piece
    tier_quantity integer,                  -- from this quantity on a line costs tier_price a piece
    tier_price    numeric(12,3),
    cost          numeric(12,3),            -- what the shop paid, where somebody typed it in
    listed_at     timestamp NOT NULL,
    updated_at    timestamp NOT NULL,
    deleted_at    timestamp
);

CREATE TABLE IF NOT EXISTS carts (
    id          serial PRIMARY KEY,
    customer_id integer REFERENCES customers (id),
    status      text NOT NULL DEFAULT 'open',   -- open, ordered
    created_at  timestamp NOT NULL
);

CREATE TABLE IF NOT EXISTS cart_items (
    cart_id    integer NOT NULL REFERENCES carts (id),
    product_id integer NOT NULL REFERENCES products (id),
    quantity   integer NOT NULL,
    PRIMARY KEY (cart_id, product_id)
);

CREATE TABLE IF NOT EXISTS orders (
    id          serial PRIMARY KEY,
    invoice_no  text,                       -- known at placing for paper orders, else set when the invoice is written
    customer_id integer REFERENCES customers (id),   -- empty: a guest
    status      text NOT NULL,              -- placed, rejected, validated, validation_failed, paid, shipped, cancelled, returned
    channel     text NOT NULL,              -- account, web, guest
    country     text NOT NULL,
    total       numeric(12,3) NOT NULL,
    placed_at   timestamp NOT NULL,
    updated_at  timestamp NOT NULL,
    note        text,                       -- free text, sometimes whole mail threads
    attributes  jsonb NOT NULL DEFAULT '{}',
    deleted_at  timestamp
);
-- Long notes live out of line, uncompressed, so that searching in them is cheap.
ALTER TABLE orders ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE INDEX IF NOT EXISTS orders_customer ON orders (customer_id);
CREATE INDEX IF NOT EXISTS orders_invoice_no ON orders (invoice_no);

CREATE TABLE IF NOT EXISTS order_items (
    order_id    integer NOT NULL REFERENCES orders (id),
    line_no     integer NOT NULL,
    product_id  integer NOT NULL REFERENCES products (id),
    description text,                       -- as printed on the invoice that day
    quantity    integer NOT NULL,
    unit_price  numeric(12,3) NOT NULL,
    added_at    timestamp NOT NULL,         -- staff can add a line minutes after the order
    PRIMARY KEY (order_id, line_no)
);

-- What a rejected order wanted of each line, and what there was.
CREATE TABLE IF NOT EXISTS order_rejections (
    order_id   integer NOT NULL REFERENCES orders (id),
    line_no    integer NOT NULL,
    product_id integer NOT NULL REFERENCES products (id),
    wanted     integer NOT NULL,
    available  integer NOT NULL,
    unit_price numeric(12,3) NOT NULL,
    PRIMARY KEY (order_id, line_no)
);

CREATE TABLE IF NOT EXISTS order_validations (
    order_id   integer NOT NULL REFERENCES orders (id),
    check_type text NOT NULL,               -- details, fraud, inventory
    result     text NOT NULL,               -- pending, passed, failed
    detail     text,
    checked_at timestamp,
    PRIMARY KEY (order_id, check_type)
);

CREATE TABLE IF NOT EXISTS payment_attempts (
    id           serial PRIMARY KEY,
    order_id     integer NOT NULL REFERENCES orders (id),
    card_token   text NOT NULL,
    amount       numeric(12,3) NOT NULL,
    result       text NOT NULL,             -- approved, declined
    reason       text,
    attempted_at timestamp NOT NULL
);
CREATE INDEX IF NOT EXISTS payment_attempts_order ON payment_attempts (order_id);

CREATE TABLE IF NOT EXISTS payments (
    id         serial PRIMARY KEY,
    order_id   integer NOT NULL REFERENCES orders (id),
    attempt_id integer NOT NULL UNIQUE REFERENCES payment_attempts (id),
    amount     numeric(12,3) NOT NULL,
    paid_at    timestamp NOT NULL
);
CREATE INDEX IF NOT EXISTS payments_order ON payments (order_id);

CREATE TABLE IF NOT EXISTS invoices (
    id         serial PRIMARY KEY,
    order_id   integer NOT NULL REFERENCES orders (id),
    invoice_no text NOT NULL,
    amount     numeric(12,3) NOT NULL,
    issued_at  timestamp NOT NULL
);
CREATE INDEX IF NOT EXISTS invoices_order ON invoices (order_id);

CREATE TABLE IF NOT EXISTS shipments (
    id         serial PRIMARY KEY,
    order_id   integer NOT NULL REFERENCES orders (id),
    carrier    text NOT NULL,
    tracking   text,
    shipped_at timestamp NOT NULL
);
CREATE INDEX IF NOT EXISTS shipments_order ON shipments (order_id);

-- A return is a credit note: its quantities are negative.
CREATE TABLE IF NOT EXISTS returns (
    id          serial PRIMARY KEY,
    order_id    integer REFERENCES orders (id),      -- empty: nobody looked up what it was bought with
    invoice_no  text NOT NULL,
    customer_id integer REFERENCES customers (id),
    country     text NOT NULL,
    amount      numeric(12,3) NOT NULL,
    returned_at timestamp NOT NULL
);
CREATE INDEX IF NOT EXISTS returns_order ON returns (order_id);

CREATE TABLE IF NOT EXISTS return_items (
    return_id   integer NOT NULL REFERENCES returns (id),
    line_no     integer NOT NULL,
    product_id  integer NOT NULL REFERENCES products (id),
    description text,
    quantity    integer NOT NULL,
    unit_price  numeric(12,3) NOT NULL,
    added_at    timestamp NOT NULL,
    PRIMARY KEY (return_id, line_no)
);

CREATE TABLE IF NOT EXISTS stock_adjustments (
    id          serial PRIMARY KEY,
    product_id  integer NOT NULL REFERENCES products (id),
    quantity    integer NOT NULL,           -- what is added to the stock; negative for losses
    price       numeric(12,3) NOT NULL,
    reason      text,                       -- as typed: delivery, damaged, "thrown away", ...
    invoice_no  text,
    country     text,
    adjusted_at timestamp NOT NULL
);

CREATE TABLE IF NOT EXISTS fees (
    id          serial PRIMARY KEY,
    order_id    integer REFERENCES orders (id),
    return_id   integer REFERENCES returns (id),
    customer_id integer REFERENCES customers (id),
    invoice_no  text,
    code        text NOT NULL,              -- POST, DOT, M, BANK CHARGES, AMAZONFEE, ...
    description text,
    quantity    integer NOT NULL,
    price       numeric(12,3) NOT NULL,
    amount      numeric(12,3) NOT NULL,     -- quantity * price
    country     text,
    charged_at  timestamp NOT NULL
);
CREATE INDEX IF NOT EXISTS fees_order ON fees (order_id);

CREATE TABLE IF NOT EXISTS idempotency_keys (
    key          text PRIMARY KEY,
    endpoint     text NOT NULL,
    request_hash bytea NOT NULL,
    status       integer,                   -- the answer that was given, and is given again
    answer       text,
    created_at   timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

-- Nobody gave this one a key, and old rows are deleted at every start.
CREATE TABLE IF NOT EXISTS access_log (
    at          timestamp NOT NULL,
    method      text NOT NULL,
    path        text NOT NULL,
    status      integer NOT NULL,
    duration_us bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS audit_log (
    id         bigserial PRIMARY KEY,
    table_name text NOT NULL,
    row_id     integer NOT NULL,
    action     text NOT NULL,
    old_row    jsonb,
    new_row    jsonb,
    at         timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE OR REPLACE FUNCTION write_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_log (table_name, row_id, action, old_row, new_row)
    VALUES (TG_TABLE_NAME, NEW.id, lower(TG_OP),
            CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) - 'password_hash' - 'note' END,
            to_jsonb(NEW) - 'password_hash' - 'note');
    RETURN NULL;
END $$;

CREATE TRIGGER customers_audit AFTER INSERT OR UPDATE ON customers
    FOR EACH ROW EXECUTE FUNCTION write_audit_log();
CREATE TRIGGER orders_audit AFTER UPDATE ON orders
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION write_audit_log();
CREATE TRIGGER products_audit AFTER UPDATE ON products
    FOR EACH ROW WHEN (OLD.price IS DISTINCT FROM NEW.price)
    EXECUTE FUNCTION write_audit_log();
