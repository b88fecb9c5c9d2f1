-- A small shop with some goods, and the role with which the source reads it: what docker-compose.yml loads.
-- May run again on a shop that is there. Run by psql as the tables' owner, with -v source_password=…

SET client_min_messages = warning;

BEGIN;
CREATE SCHEMA IF NOT EXISTS catalog;
CREATE SCHEMA IF NOT EXISTS inventory;
CREATE SCHEMA IF NOT EXISTS sales;

CREATE TABLE IF NOT EXISTS catalog.product (
    id bigint PRIMARY KEY,
    sku text NOT NULL UNIQUE,
    name text NOT NULL,
    description text,
    price numeric(12,2) NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    attributes jsonb NOT NULL DEFAULT '{}',
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS inventory.stock (
    product_id bigint NOT NULL REFERENCES catalog.product,
    region text NOT NULL,
    quantity integer NOT NULL,
    PRIMARY KEY (product_id, region)
);
CREATE TABLE IF NOT EXISTS sales."order" (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS sales.order_line (
    order_id uuid NOT NULL REFERENCES sales."order",
    line smallint NOT NULL,
    product_id bigint NOT NULL REFERENCES catalog.product,
    quantity integer NOT NULL,
    price numeric(12,2) NOT NULL,
    PRIMARY KEY (order_id, line)
);

INSERT INTO catalog.product (id, sku, name, description, price, tags, attributes) VALUES
    (1, 'TEA-001', 'Green tea', 'Loose leaves from the first harvest, 100 g', 7.90, '{tea,green}', '{"grams": 100, "origin": "Japan"}'),
    (2, 'TEA-002', 'Smoked tea', 'Black leaves, dried over pine wood, 100 g', 8.40, '{tea,black}', '{"grams": 100, "origin": "China"}'),
    (3, 'COF-001', 'Espresso beans', 'A dark roast with little acid, 500 g', 12.50, '{coffee,beans}', '{"grams": 500}'),
    (4, 'COF-002', 'Filter coffee', 'A light roast, ground, 250 g', 6.20, '{coffee,ground}', '{"grams": 250}'),
    (5, 'CUP-001', 'Cup with a handle', 'Glazed stoneware, holds 250 ml', 14.00, '{ceramics}', '{"millilitres": 250}'),
    (6, 'CUP-002', 'Tea bowl', 'Thin porcelain for green tea, holds 120 ml', 19.00, '{ceramics,tea}', '{"millilitres": 120}'),
    (7, 'POT-001', 'Teapot', 'Cast iron, with a sieve, holds 800 ml', 49.00, '{ceramics,tea}', '{"millilitres": 800}'),
    (8, 'KET-001', 'Kettle', 'Heats a litre to the degree that you choose', 79.90, '{appliance}', '{"watts": 2200}'),
    (9, 'GRI-001', 'Coffee grinder', 'Conical burrs, turned by hand', 64.00, '{appliance,coffee}', '{}'),
    (10, 'BOO-001', 'The tea handbook', NULL, 24.80, '{book,tea}', '{"pages": 212}')
ON CONFLICT DO NOTHING;
INSERT INTO inventory.stock (product_id, region, quantity)
    SELECT p.id, r.name, (p.id * r.number % 40)::integer
    FROM catalog.product p, (VALUES (7, 'eu-central'), (11, 'eu-west'), (13, 'us-east')) r(number, name)
ON CONFLICT DO NOTHING;
INSERT INTO sales."order" (id, customer) VALUES
    ('6f0c5f5e-52a2-4b44-9d0e-2a7b1a0d8c01', 'Ada'), ('6f0c5f5e-52a2-4b44-9d0e-2a7b1a0d8c02', 'Grace')
ON CONFLICT DO NOTHING;
INSERT INTO sales.order_line (order_id, line, product_id, quantity, price) VALUES
    ('6f0c5f5e-52a2-4b44-9d0e-2a7b1a0d8c01', 1, 1, 2, 7.90), ('6f0c5f5e-52a2-4b44-9d0e-2a7b1a0d8c01', 2, 7, 1, 49.00),
    ('6f0c5f5e-52a2-4b44-9d0e-2a7b1a0d8c02', 1, 3, 1, 12.50)
ON CONFLICT DO NOTHING;

-- The source's role: it reads, and it replicates. The publications are the owner's.
SELECT 'CREATE ROLE tributary' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tributary') \gexec
ALTER ROLE tributary LOGIN REPLICATION PASSWORD :'source_password';
GRANT USAGE ON SCHEMA catalog, inventory, sales TO tributary;
GRANT SELECT ON ALL TABLES IN SCHEMA catalog, inventory, sales TO tributary;
SELECT 'CREATE PUBLICATION tributary_shop FOR TABLE catalog.product, inventory.stock, sales."order", sales.order_line
        WITH (publish = ''insert, update, delete, truncate'', publish_via_partition_root = true)'
    WHERE NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'tributary_shop') \gexec
-- For tables without a key, of which there is none.
SELECT 'CREATE PUBLICATION tributary_shop_keyless WITH (publish = ''insert, truncate'', publish_via_partition_root = true)'
    WHERE NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'tributary_shop_keyless') \gexec
COMMIT;
