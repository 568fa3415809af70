package ask

import "banyan/quote"

// Encode is encode, for the benchmark beside the library's.
func Encode(orders []quote.Order) []byte { return encode(orders) }
