package verify

// linesOf opens the contents of the reservations r, as lines l. That takes several times as long as
// to compare text, so it is done for few of them: those that are held, and those whose text is not
// what the ledger says it should be. Text that differs proves nothing, only lines do: other spaces
// or another order are no fault.
const linesOf = `JSON_TABLE(COALESCE(CONVERT(r.contents USING utf8mb4), '[]'), '$[*]' COLUMNS (
		            product_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PATH '$.product', quantity BIGINT PATH '$.quantity', counted BIGINT PATH '$.counted')) l`

// checks are the shop's invariants. Each query gives one row of text per row that breaks it.
var checks = []check{
	{"stock on hand is the sum of its movements", `
		SELECT    CONCAT('product ', s.product_id, ': on hand ', s.on_hand, ', movements add up to ', COALESCE(m.total, 0))
		FROM      {inventory}.stock s
		LEFT JOIN (SELECT product_id, SUM(delta) AS total FROM {inventory}.stock_movements GROUP BY product_id) m ON m.product_id = s.product_id
		WHERE     s.on_hand <> COALESCE(m.total, 0)`},
	{"every movement is of a product that has stock", `
		SELECT    CONCAT('movement ', m.reference, ' ', m.kind, ' of product ', m.product_id)
		FROM      {inventory}.stock_movements m
		LEFT JOIN {inventory}.stock s ON s.product_id = m.product_id
		WHERE     s.product_id IS NULL`},
	{"stock is never below zero, nor below what is reserved", `
		SELECT CONCAT('product ', product_id, ': on hand ', on_hand, ', reserved ', reserved)
		FROM   {inventory}.stock
		WHERE  on_hand < 0 OR reserved < 0 OR reserved > on_hand`},
	{"reserved stock is the sum of what is held", `
		SELECT    CONCAT('product ', s.product_id, ': reserved ', s.reserved, ', held ', COALESCE(h.total, 0))
		FROM      {inventory}.stock s
		LEFT JOIN (SELECT   l.product_id, SUM(l.counted) AS total
		           FROM     {inventory}.reservations r
		           JOIN     ` + linesOf + ` ON TRUE
		           WHERE    r.state = 'held'
		           GROUP BY l.product_id) h ON h.product_id = s.product_id
		WHERE     s.reserved <> COALESCE(h.total, 0)`},
	// From the lines to the ledger, and from the ledger to the lines: a line of what is sold that has
	// another movement than it should, or none; and movements of what is not sold, of no line, or of nobody.
	{"what a reservation sold has left the shelf, and nothing else has", `
		SELECT    CONCAT('reservation ', r.reservation_id, ' (', r.state, ') product ', l.product_id, ': counted ', l.counted,
		                 ', sold ', COALESCE(-sold.delta, 0), ', returned ', COALESCE(returned.delta, 0))
		FROM      {inventory}.reservations r
		JOIN      ` + linesOf + ` ON TRUE
		LEFT JOIN {inventory}.stock_movements sold
		       ON sold.reference = r.reservation_id AND sold.product_id = l.product_id AND sold.kind = 'sold'
		LEFT JOIN {inventory}.stock_movements returned
		       ON returned.reference = r.reservation_id AND returned.product_id = l.product_id AND returned.kind = 'returned'
		WHERE     r.state = 'sold'
		  AND NOT r.contents <=> (
		            SELECT CONCAT('[', GROUP_CONCAT('{"product":"', m.product_id, '","quantity":', -m.delta, ',"counted":', -m.delta, '}' ORDER BY m.product_id SEPARATOR ','), ']')
		            FROM   {inventory}.stock_movements m
		            WHERE  m.reference = r.reservation_id AND m.kind <> 'adjusted')
		  AND     COALESCE(sold.delta, 0) + COALESCE(returned.delta, 0) <> -l.counted
		UNION ALL
		SELECT    CONCAT('reservation ', m.reference, ' (', COALESCE(MAX(r.state), 'none'), ') product ', m.product_id, ': sold and not returned ', -SUM(m.delta))
		FROM      {inventory}.stock_movements m
		LEFT JOIN {inventory}.reservations r ON r.reservation_id = m.reference
		WHERE     m.kind <> 'adjusted'
		  AND     (   COALESCE(r.state, '') <> 'sold'
		           OR LOCATE(CONCAT('"product":"', m.product_id, '"'), r.contents) = 0
		              AND NOT JSON_CONTAINS(CONVERT(r.contents USING utf8mb4), JSON_OBJECT('product', m.product_id)))
		GROUP BY  m.reference, m.product_id
		HAVING    SUM(m.delta) <> 0`},
	{"no reservation is held long after its time", `
		SELECT CONCAT('reservation ', reservation_id, ' lapsed at ', expires_at)
		FROM   {inventory}.reservations
		WHERE  expires_at < NOW(6) - INTERVAL 60 SECOND`},
	{"every line of a placed order was sold, in full", `
		SELECT    CONCAT('order ', o.order_id, ' product ', bought.product_id, ': bought ', bought.quantity, ', reserved ', COALESCE(l.quantity, 0), ' (', COALESCE(r.state, 'none'), ')')
		FROM      {checkouts}.orders o
		JOIN      {checkouts}.order_lines bought ON bought.checkout_id = o.checkout_id
		LEFT JOIN {inventory}.reservations r ON r.reservation_id = o.checkout_id
		LEFT JOIN ` + linesOf + ` ON l.product_id = bought.product_id
		WHERE     o.state = 'placed'
		  AND     (COALESCE(r.state, '') <> 'sold' OR LOCATE(CONCAT('{"product":"', bought.product_id, '","quantity":', bought.quantity, ','), r.contents) = 0)
		  AND     (COALESCE(r.state, '') <> 'sold' OR COALESCE(l.quantity, 0) <> bought.quantity)`},
	{"every placed order has lines, and they add up to its total", `
		SELECT    CONCAT('order ', o.order_id, ': total ', o.total_minor, ', lines add up to ', COALESCE(l.total, 0))
		FROM      {checkouts}.orders o
		LEFT JOIN (SELECT checkout_id, SUM(quantity * unit_price_minor) AS total FROM {checkouts}.order_lines GROUP BY checkout_id) l ON l.checkout_id = o.checkout_id
		WHERE     o.state = 'placed' AND (l.total IS NULL OR l.total <> o.total_minor)`},
	{"a failed checkout holds no stock", `
		SELECT CONCAT('order ', o.order_id, ': reservation is ', r.state)
		FROM   {checkouts}.orders o
		JOIN   {inventory}.reservations r ON r.reservation_id = o.checkout_id
		WHERE  o.state = 'failed' AND r.state <> 'released'`},
	{"every placed order was paid, exactly", `
		SELECT    CONCAT('order ', o.order_id, ': total ', o.total_minor, ' ', o.currency, ', payment ', COALESCE(CONCAT(p.amount_minor, ' ', p.currency, ' ', p.state), 'none'))
		FROM      {checkouts}.orders o
		LEFT JOIN {payments}.payments p ON p.payment_id = o.checkout_id
		WHERE     o.state = 'placed' AND o.total_minor > 0
		  AND     (p.payment_id IS NULL OR p.state <> 'charged' OR p.amount_minor <> o.total_minor OR p.currency <> o.currency)`},
	{"a failed checkout keeps no money", `
		SELECT CONCAT('order ', o.order_id, ': payment is ', p.state)
		FROM   {checkouts}.orders o
		JOIN   {payments}.payments p ON p.payment_id = o.checkout_id
		WHERE  o.state = 'failed' AND p.state IN ('initiated', 'charged', 'cancelling')`},
	{"every charge belongs to an order", `
		SELECT    CONCAT('payment ', p.payment_id, ' of ', p.amount_minor, ' ', p.currency, ' for order ', p.order_id)
		FROM      {payments}.payments p
		LEFT JOIN {checkouts}.orders o ON o.checkout_id = p.payment_id
		WHERE     p.state = 'charged' AND (o.order_id IS NULL OR o.order_id <> p.order_id)`},
	{"the provider's books say what ours say", `
		SELECT    CONCAT('payment ', p.payment_id, ' is ', p.state, ' over ', p.amount_minor, ', provider: ',
		                 COALESCE(CONCAT(c.outcome, ' over ', c.amount_minor, ', refunded ', c.refunded_minor), 'nothing'))
		FROM      {payments}.payments p
		LEFT JOIN {payments}.test_provider_charges c ON c.idempotency_key = p.payment_id
		WHERE     p.provider = 'test'
		  AND     (   (p.state = 'charged'  AND (c.outcome IS NULL OR c.outcome <> 'charged' OR c.amount_minor <> p.amount_minor OR c.refunded_minor <> 0))
		           OR (p.state = 'refunded' AND (c.outcome IS NULL OR c.outcome <> 'charged' OR c.refunded_minor <> c.amount_minor))
		           OR (p.state IN ('declined', 'cancelled') AND c.outcome = 'charged' AND c.refunded_minor <> c.amount_minor))`},
	{"the provider charged nothing that we do not know", `
		SELECT    CONCAT('charge ', c.idempotency_key, ' over ', c.amount_minor, ' ', c.currency)
		FROM      {payments}.test_provider_charges c
		LEFT JOIN {payments}.payments p ON p.payment_id = c.idempotency_key
		WHERE     p.payment_id IS NULL AND c.outcome = 'charged'`},
	{"no checkout is stuck", `
		SELECT CONCAT('order ', order_id, ' is ', state, ' since ', created_at)
		FROM   {checkouts}.orders
		WHERE  state IN ('placing', 'undoing') AND due_at < NOW(6) - INTERVAL 60 SECOND`},
	{"a cart's frozen lines go where its checkout went", `
		SELECT CONCAT('order ', o.order_id, ' is ', o.state, ', its cart is ', f.state)
		FROM   {checkouts}.orders o
		JOIN   {carts}.freezes f ON f.checkout_id = o.checkout_id
		WHERE  (o.state = 'placed' AND f.state = 'thawed')
		   OR  (o.state = 'failed' AND f.state <> 'thawed')`},
	{"lines are frozen only for a checkout", `
		SELECT    CONCAT('checkout ', f.checkout_id, ' of ', f.client_id)
		FROM      {carts}.freezes f
		LEFT JOIN {checkouts}.orders o ON o.checkout_id = f.checkout_id
		WHERE     f.state = 'frozen' AND o.checkout_id IS NULL`},
	{"events leave", `
		SELECT CONCAT(database_name, ': the events of ', sheets, ' transactions wait, the oldest since ', oldest)
		FROM (      SELECT 'inventory' AS database_name, COUNT(*) AS sheets, MIN(created_at) AS oldest FROM {inventory}.outbox
		  UNION ALL SELECT 'carts',     COUNT(*), MIN(created_at) FROM {carts}.outbox
		  UNION ALL SELECT 'checkouts', COUNT(*), MIN(created_at) FROM {checkouts}.outbox
		  UNION ALL SELECT 'payments',  COUNT(*), MIN(created_at) FROM {payments}.outbox
		  UNION ALL SELECT 'catalogue', COUNT(*), MIN(created_at) FROM {catalogue}.outbox) waiting
		WHERE  oldest < NOW(6) - INTERVAL 60 SECOND`},
}
