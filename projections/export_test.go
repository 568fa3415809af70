package projections

import "time"

// ExpireEvery makes a runner look for old rows that often.
func (r *Runner) ExpireEvery(d time.Duration) { r.expireEvery = d }
