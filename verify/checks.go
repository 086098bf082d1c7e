package verify

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
		           JOIN     {inventory}.reservation_lines l ON l.reservation_id = r.reservation_id
		           WHERE    r.state = 'held'
		           GROUP BY l.product_id) h ON h.product_id = s.product_id
		WHERE     s.reserved <> COALESCE(h.total, 0)`},
	{"what a reservation sold has left the shelf, and nothing else has", `
		SELECT    CONCAT('reservation ', l.reservation_id, ' (', r.state, ') product ', l.product_id, ': counted ', l.counted,
		                 ', sold ', COALESCE(-sold.delta, 0), ', returned ', COALESCE(returned.delta, 0))
		FROM      {inventory}.reservation_lines l
		JOIN      {inventory}.reservations r ON r.reservation_id = l.reservation_id
		LEFT JOIN {inventory}.stock_movements sold
		       ON sold.reference = l.reservation_id AND sold.product_id = l.product_id AND sold.kind = 'sold'
		LEFT JOIN {inventory}.stock_movements returned
		       ON returned.reference = l.reservation_id AND returned.product_id = l.product_id AND returned.kind = 'returned'
		WHERE     COALESCE(sold.delta, 0) + COALESCE(returned.delta, 0) <> IF(r.state = 'sold', -l.counted, 0)`},
	{"no reservation is held long after its time", `
		SELECT CONCAT('reservation ', reservation_id, ' lapsed at ', expires_at)
		FROM   {inventory}.reservations
		WHERE  expires_at < NOW(6) - INTERVAL 60 SECOND`},
	{"every line of a placed order was sold, in full", `
		SELECT    CONCAT('order ', l.order_id, ' product ', l.product_id, ': bought ', l.quantity, ', reserved ', COALESCE(rl.quantity, 0), ' (', COALESCE(r.state, 'none'), ')')
		FROM      {checkouts}.orders o
		JOIN      {checkouts}.order_lines l ON l.order_id = o.order_id
		LEFT JOIN {inventory}.reservations r ON r.reservation_id = o.order_id
		LEFT JOIN {inventory}.reservation_lines rl ON rl.reservation_id = o.order_id AND rl.product_id = l.product_id
		WHERE     o.state = 'placed' AND (COALESCE(r.state, '') <> 'sold' OR COALESCE(rl.quantity, 0) <> l.quantity)`},
	{"every placed order has lines, and they add up to its total", `
		SELECT    CONCAT('order ', o.order_id, ': total ', o.total_minor, ', lines add up to ', COALESCE(l.total, 0))
		FROM      {checkouts}.orders o
		LEFT JOIN (SELECT order_id, SUM(quantity * unit_price_minor) AS total FROM {checkouts}.order_lines GROUP BY order_id) l ON l.order_id = o.order_id
		WHERE     o.state = 'placed' AND (l.total IS NULL OR l.total <> o.total_minor)`},
	{"a failed checkout holds no stock", `
		SELECT CONCAT('order ', o.order_id, ': reservation is ', r.state)
		FROM   {checkouts}.orders o
		JOIN   {inventory}.reservations r ON r.reservation_id = o.order_id
		WHERE  o.state = 'failed' AND r.state <> 'released'`},
	{"every placed order was paid, exactly", `
		SELECT    CONCAT('order ', o.order_id, ': total ', o.total_minor, ' ', o.currency, ', payment ', COALESCE(CONCAT(p.amount_minor, ' ', p.currency, ' ', p.state), 'none'))
		FROM      {checkouts}.orders o
		LEFT JOIN {payments}.payments p ON p.payment_id = o.order_id
		WHERE     o.state = 'placed' AND o.total_minor > 0
		  AND     (p.payment_id IS NULL OR p.state <> 'charged' OR p.amount_minor <> o.total_minor OR p.currency <> o.currency)`},
	{"a failed checkout keeps no money", `
		SELECT CONCAT('order ', o.order_id, ': payment is ', p.state)
		FROM   {checkouts}.orders o
		JOIN   {payments}.payments p ON p.payment_id = o.order_id
		WHERE  o.state = 'failed' AND p.state IN ('initiated', 'charged', 'cancelling')`},
	{"every charge belongs to an order", `
		SELECT    CONCAT('payment ', p.payment_id, ' of ', p.amount_minor, ' ', p.currency)
		FROM      {payments}.payments p
		LEFT JOIN {checkouts}.orders o ON o.order_id = p.payment_id
		WHERE     p.state = 'charged' AND o.order_id IS NULL`},
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
		JOIN   {carts}.freezes f ON f.checkout_id = o.order_id
		WHERE  (o.state = 'placed' AND f.state = 'thawed')
		   OR  (o.state = 'failed' AND f.state <> 'thawed')`},
	{"lines are frozen only for a checkout", `
		SELECT    CONCAT('checkout ', f.checkout_id, ' of ', f.client_id)
		FROM      {carts}.freezes f
		LEFT JOIN {checkouts}.orders o ON o.order_id = f.checkout_id
		WHERE     f.state = 'frozen' AND o.order_id IS NULL`},
	{"events leave", `
		SELECT CONCAT(database_name, ': the events of ', sheets, ' transactions wait, the oldest since ', oldest)
		FROM (      SELECT 'inventory' AS database_name, COUNT(*) AS sheets, MIN(created_at) AS oldest FROM {inventory}.outbox
		  UNION ALL SELECT 'carts',     COUNT(*), MIN(created_at) FROM {carts}.outbox
		  UNION ALL SELECT 'checkouts', COUNT(*), MIN(created_at) FROM {checkouts}.outbox
		  UNION ALL SELECT 'payments',  COUNT(*), MIN(created_at) FROM {payments}.outbox
		  UNION ALL SELECT 'catalogue', COUNT(*), MIN(created_at) FROM {catalogue}.outbox) waiting
		WHERE  oldest < NOW(6) - INTERVAL 60 SECOND`},
}
