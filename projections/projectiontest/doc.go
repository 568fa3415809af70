// Package projectiontest is a kit for testing projections, without Kafka, without
// Postgres and without waiting.
//
// A Case gives a Program events and looks at the rows:
//
//	c := projectiontest.New(t, program)
//	c.Given(projectiontest.Event{Topic: "shop.customers", Type: "CustomerRecorded", Aggregate: "Customer", Key: "42",
//		Data: `{"state": {"id": 42, "city": "Leeds"}}`})
//	c.When(projectiontest.Event{Topic: "shop.customers", Type: "CustomerMoved", Aggregate: "Customer", Key: "42",
//		Data: `{"state": {"id": 42, "city": "Bristol"}}`})
//	c.Then("addresses", projectiontest.Row{"customer_id": 42, "city": "Bristol"})
//
// Positions and times are made up: each Given or When is one transaction of the
// source, a second after the one before. Case.Wait lets time pass, so that timers
// fire. Case.At sets the clock.
//
// Splits goes further: it gives the same events in many random ways, cut into other
// batches, partitions ahead of each other, a crash between any two steps, all of it
// once more from the beginning, and wants the same rows each time. A Program that
// keeps something outside its rows, asks for the time or iterates over a map fails
// there and not in production.
//
// For tests of a whole service there is a Source, which tells its events as cdc
// would: positions, dense sequence numbers, watermarks, and on request what goes
// wrong in reality: repeats, late repeats, a hole, other bytes under a known
// number. It writes to a Log in memory or to a real broker.
package projectiontest
