package bench

import "strings"

// withHistory puts the orders of one step where a statement says {history}: its IDs, clients and
// products follow from the numbers @first to @first + @count - 1 of @all. id is the checkout's, which
// grows as if one had begun each millisecond; order_id is what the client would know.
var withHistory = strings.NewReplacer("{history}", `
	(SELECT CONCAT(INSERT(LPAD(LOWER(HEX(@born + n)), 12, '0'), 9, 0, '-'), '-7', @tag, LPAD(LOWER(HEX(n)), 12, '0')) AS id,
	        CONCAT(LPAD(LOWER(HEX(n * 4294967295 DIV @all)), 8, '0'), '-0000-8', @tag, LPAD(LOWER(HEX(n)), 12, '0')) AS order_id,
	        CONCAT(@run, '-h', n DIV 5) AS client, CONCAT(@run, '-h', n MOD 1000) AS product
	 FROM  (SELECT @first + ones.d + 10 * tens.d + 100 * hundreds.d + 1000 * thousands.d AS n
	        FROM   `+digitTable+` ones CROSS JOIN `+digitTable+` tens CROSS JOIN `+digitTable+` hundreds CROSS JOIN `+digitTable+` thousands) numbers
	 WHERE n < @first + @count) history`)

const digitTable = `(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
	UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)`

// historyStatements make finished orders of one unit each: the order, its reservation, the
// movement that sold it, its payment and what was in its cart, and the delivery that brought the units.
var historyStatements = []string{`
	INSERT INTO {checkouts}.orders (checkout_id, order_id, client_id, request_hash, payment_method, email, state, total_minor, currency, created_at, updated_at, due_at)
	SELECT id, order_id, client, UNHEX(SHA2(id, 256)), '', '', 'placed', 1250, 'EUR', FROM_UNIXTIME(@born / 1000), FROM_UNIXTIME(@born / 1000), NULL FROM {history} ORDER BY id`, `
	INSERT INTO {checkouts}.order_lines (checkout_id, product_id, name, quantity, unit_price_minor)
	SELECT id, product, 'A product of the bench', 1, 1250 FROM {history} ORDER BY id`, `
	INSERT INTO {inventory}.stock (product_id, kind, on_hand, reserved)
	SELECT DISTINCT product, 'finite', 0, 0 FROM {history} ON DUPLICATE KEY UPDATE reserved = reserved`, `
	INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta)
	SELECT CONCAT(@run, '-h', @first), product, 'adjusted', COUNT(*) FROM {history} GROUP BY product`, `
	INSERT INTO {inventory}.reservations (reservation_id, state, expires_at, contents)
	SELECT id, 'sold', NULL, CONCAT('[{"product":"', product, '","quantity":1,"counted":1}]') FROM {history} ORDER BY id`, `
	INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta)
	SELECT id, product, 'sold', -1 FROM {history} ORDER BY id`, `
	INSERT INTO {payments}.payments (payment_id, order_id, amount_minor, currency, method, provider, state, created_at, updated_at)
	SELECT id, order_id, 1250, 'EUR', '', 'bench', 'charged', FROM_UNIXTIME(@born / 1000), FROM_UNIXTIME(@born / 1000) FROM {history} ORDER BY id`, `
	INSERT INTO {carts}.freezes (checkout_id, client_id, state, contents, updated_at)
	SELECT id, client, 'frozen', CONCAT('[{"product":"', product, '","name":"A product of the bench","quantity":1,"price":1250,"currency":"EUR"}]'), FROM_UNIXTIME(@born / 1000) FROM {history} ORDER BY id`,
}
