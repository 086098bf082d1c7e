// Package failpoint breaks a process at a named step, for tests: the process kills itself there,
// stops, or loses the answer to what it has just done. Only programs built with the tag failpoints
// can do it; in all others the functions that mark a step are empty, and the compiler leaves
// nothing of them.
//
// A test arms a point with Arm, in the folder that the environment variable Folder names for the
// process. Whoever comes by first takes what is armed, so a point goes off once, in one process.
package failpoint

// Point is a step that can be broken.
type Point string

// The points, in the order in which a request comes by.
const (
	JobMade         Point = "job-made"         // before a job is sent to the broker
	MessageSent     Point = "message-sent"     // a job, an answer or a move is sent and not confirmed yet
	JobConfirmed    Point = "job-confirmed"    // the broker has the job, and whoever asked does not know
	AnswerHeard     Point = "answer-heard"     // answers have come, and nobody was given one yet
	JobTaken        Point = "job-taken"        // a job is delivered, and nothing of it is done
	JobDone         Point = "job-done"         // a job's effects are saved and answered, and it is not acknowledged
	OrderOpened     Point = "order-opened"     // the order's row is saved
	Frozen          Point = "has-frozen"       // its lines are fixed
	ReserveSent     Point = "reserve-sent"     // units were asked for, many orders at once, and nobody heard the answer
	Reserved        Point = "has-reserved"     // its units are held
	Charged         Point = "has-charged"      // its payment is taken
	Committed       Point = "has-committed"    // its units are sold
	OrderSaved      Point = "order-saved"      // a move of the order is saved: placed, turned round or failed
	Refunded        Point = "has-refunded"     // on the way back: no money is kept
	RolledBack      Point = "has-rolled-back"  // on the way back: no unit is held
	Thawed          Point = "has-thawed"       // on the way back: its lines are free
	PaymentOpened   Point = "payment-opened"   // a payment's row is saved, and the provider was not asked
	ProviderCharged Point = "provider-charged" // the provider has taken the money, and nothing of ours says so
	ProviderStopped Point = "provider-stopped" // the provider has cancelled, and nothing of ours says so
	ProviderRepaid  Point = "provider-repaid"  // the provider has given the money back, and nothing of ours says so
	BatchBegun      Point = "batch-begun"      // a batch of calls is about to become a transaction
	TxFilled        Point = "tx-filled"        // everything in a transaction is said but the commit
	TxCommitted     Point = "tx-committed"     // a transaction is committed, and its caller does not know
	EventsSent      Point = "events-sent"      // events are sent and not confirmed yet
	EventsConfirmed Point = "events-confirmed" // the broker has the events, and they still wait in the outbox
)

// Points are all of them.
func Points() []Point {
	return []Point{
		JobMade, MessageSent, JobConfirmed, AnswerHeard, JobTaken, JobDone,
		OrderOpened, Frozen, ReserveSent, Reserved, Charged, Committed, OrderSaved,
		Refunded, RolledBack, Thawed, PaymentOpened, ProviderCharged, ProviderStopped, ProviderRepaid,
		BatchBegun, TxFilled, TxCommitted, EventsSent, EventsConfirmed,
	}
}
