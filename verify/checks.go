package verify

// check is one invariant. Its rows, of one text each, break it: those that a query of the database
// gives, or those that a rule finds on a product's shelf or in all that belongs to one checkout.
type check struct {
	name     string
	query    string
	shelf    func(*shelf) string
	checkout func(*checkout) []string
}

// checks are the shop's invariants, in the order in which they are told. A query must be quick on
// millions of rows: it looks along an index for what should not be there.
var checks = []check{
	{name: "stock on hand is the sum of its movements", shelf: movementsAddUp},
	{name: "every movement is of a product that has stock", shelf: movedIsKnown},
	{name: "stock is never below zero, nor below what is reserved", shelf: stockIsThere},
	{name: "reserved stock is the sum of what is held", shelf: reservedIsHeld},
	{name: "what a reservation sold has left the shelf, and nothing else has", checkout: soldHasLeft},
	{name: "no reservation is held long after its time", query: `
		SELECT CONCAT('reservation ', reservation_id, ' lapsed at ', expires_at)
		FROM   {inventory}.reservations
		WHERE  expires_at < NOW(6) - INTERVAL 60 SECOND`},
	{name: "every line of a placed order was sold, in full", checkout: boughtWasSold},
	{name: "every placed order has lines, and they add up to its total", checkout: linesAddUp},
	{name: "a failed checkout holds no stock", checkout: failedHoldsNoStock},
	{name: "every placed order was paid, exactly", checkout: placedWasPaid},
	{name: "a failed checkout keeps no money", checkout: failedKeepsNoMoney},
	{name: "every charge belongs to an order", checkout: chargedForAnOrder},
	{name: "the provider's books say what ours say", checkout: providerAgrees},
	{name: "the provider charged nothing that we do not know", checkout: providerIsKnown},
	{name: "no checkout is stuck", query: `
		SELECT CONCAT('order ', order_id, ' is ', state, ' since ', created_at)
		FROM   {checkouts}.orders
		WHERE  state IN ('placing', 'undoing') AND due_at < NOW(6) - INTERVAL 60 SECOND`},
	{name: "a cart's frozen lines go where its checkout went", checkout: cartFollows},
	{name: "lines are frozen only for a checkout", checkout: frozenForACheckout},
	{name: "events leave", query: `
		SELECT CONCAT(database_name, ': the events of ', sheets, ' transactions wait, the oldest since ', oldest)
		FROM (      SELECT 'inventory' AS database_name, COUNT(*) AS sheets, MIN(created_at) AS oldest FROM {inventory}.outbox
		  UNION ALL SELECT 'carts',     COUNT(*), MIN(created_at) FROM {carts}.outbox
		  UNION ALL SELECT 'checkouts', COUNT(*), MIN(created_at) FROM {checkouts}.outbox
		  UNION ALL SELECT 'payments',  COUNT(*), MIN(created_at) FROM {payments}.outbox
		  UNION ALL SELECT 'catalogue', COUNT(*), MIN(created_at) FROM {catalogue}.outbox) waiting
		WHERE  oldest < NOW(6) - INTERVAL 60 SECOND`},
}
