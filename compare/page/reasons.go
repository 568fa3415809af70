package page

import "banyan/compare"

// reasons are those for which something is set aside, in words for somebody who keeps
// books and has not read the programs.
var reasons = map[string]string{
	"consumed":                      "all that was read",
	string(compare.Recorded):        "told by a snapshot: it was there before",
	string(compare.BeforeStart):     "older than the comparison",
	string(compare.Released):        "told late: it had been parked",
	string(compare.Sampled):         "the customer is not in the sample",
	string(compare.Timeout):         "the candidate was too slow",
	string(compare.Failed):          "the candidate failed",
	string(compare.Refused):         "the candidate refused",
	string(compare.Redirect):        "the candidate pointed elsewhere",
	string(compare.Oversize):        "the answer was too long",
	string(compare.Unparsable):      "the answer could not be read",
	string(compare.NoAnswer):        "no answer for it came",
	string(compare.DuplicateAnswer): "it was answered twice",
	string(compare.Declined):        "the candidate gives no price",
	string(compare.Open):            "not asked: too many calls had failed",
	string(compare.SawFuture):       "the answer knew later events",
	string(compare.Unproven):        "the answer does not say what it knew",
	string(compare.WrongCurrency):   "the answer is in another currency",
	string(compare.BadPrice):        "a price that cannot be meant",
	string(compare.TooFine):         "a price of more than four decimals",
	string(compare.TooLarge):        "a sum that no book holds",
	string(compare.Free):            "a gift: nothing was paid",
	string(compare.NoPrice):         "what was paid is not known",
	string(compare.NotSold):         "no piece was sold",
	string(compare.NoLines):         "an order without lines",
	string(compare.Unreadable):      "the event could not be read",
}

// reasonOf says what a row of the books is; "" for those that need no words.
func reasonOf(what string) string { return reasons[what] }
