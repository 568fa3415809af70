package page

import (
	"time"

	"banyan/compare"
)

// Status is how a run is going at this moment.
type Status struct {
	LagRecords      int64   `json:"lagRecords"` // behind the end of the log
	LagSeconds      float64 `json:"lagSeconds"`
	EventsPerSecond float64 `json:"eventsPerSecond"`
	Position        string  `json:"position"`
	// Paused says why nothing is taken in at the moment; "" while something is.
	Paused string `json:"paused,omitempty"`
	// Breaker is closed, open or half-open; "" where nobody is called.
	Breaker string `json:"breaker,omitempty"`
	// Drops are orders that were not compared, by reason.
	Drops []compare.EventRow `json:"drops"`
	Since time.Time          `json:"since"`
}
