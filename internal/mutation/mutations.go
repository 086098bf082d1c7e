// Package mutation takes mechanisms away, one at a time, so that tests can show that something
// notices. Only programs built with the tag mutations can do it; in all others On is always false,
// and the compiler leaves nothing of what it guards.
package mutation

// Mutation is a mechanism that can be taken away.
type Mutation string

// The mutations, each with what goes wrong.
const (
	AckEarly          Mutation = "ack-early"          // a job is acknowledged before it is done
	NoConfirm         Mutation = "no-confirm"         // nobody waits for the broker to confirm a message
	NoMandatory       Mutation = "no-mandatory"       // a message that no queue takes counts as stored
	NoTombstone       Mutation = "no-tombstone"       // a release before its reservation leaves nothing behind
	FirstLineOnly     Mutation = "first-line-only"    // a release gives the first line back and forgets the others
	NoUnitCheck       Mutation = "no-unit-check"      // more is reserved than there is
	NoDedup           Mutation = "no-dedup"           // a job that is delivered again is done again
	NewKeyEachTry     Mutation = "new-key-each-try"   // the provider is asked under another key each time
	NoCancel          Mutation = "no-cancel"          // what our books call uncharged is not cancelled at the provider
	UnitsBeforeMoney  Mutation = "units-before-money" // units go back while the money is still taken
	UnguardedFinish   Mutation = "unguarded-finish"   // an order ends whatever state it is in
	SilenceIsNo       Mutation = "silence-is-no"      // a call without an answer is taken for refused
	EventsOutside     Mutation = "events-outside"     // events are saved in a transaction of their own
	ForgetUnconfirmed Mutation = "forget-unconfirmed" // events leave the outbox before the broker has them
	AnyAnswer         Mutation = "any-answer"         // an answer to another job is taken for one's own
)

// Mutations are all of them.
func Mutations() []Mutation {
	return []Mutation{
		AckEarly, NoConfirm, NoMandatory, NoTombstone, FirstLineOnly, NoUnitCheck, NoDedup, NewKeyEachTry,
		NoCancel, UnitsBeforeMoney, UnguardedFinish, SilenceIsNo, EventsOutside, ForgetUnconfirmed, AnyAnswer,
	}
}

// Variable is the environment variable that names the mechanism to take away.
const Variable = "CARTWRIGHT_MUTATION"
