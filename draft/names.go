package draft

import (
	"strings"
	"unicode"
)

// words splits a name of the database into lower-case words of a-z and 0-9:
// at every other character and where a capital begins a word. What has no such
// character gives none.
func words(name string) []string {
	var out []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			out = append(out, string(word))
			word = nil
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
		case unicode.IsUpper(r):
			// aB begins a word, and so does the B of ABc.
			if i > 0 && (unicode.IsLower(runes[i-1]) || unicode.IsDigit(runes[i-1]) ||
				i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
				end()
			}
			word = append(word, unicode.ToLower(r))
		default:
			word = append(word, r)
		}
	}
	end()
	return out
}

// pascal joins words as OrderItem.
func pascal(words []string) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(strings.ToUpper(w[:1]) + w[1:])
	}
	return b.String()
}

var irregular = map[string]string{
	"people": "person", "children": "child", "men": "man", "women": "woman", "mice": "mouse", "feet": "foot", "teeth": "tooth",
	"series": "series", "staff": "staff", "equipment": "equipment", "information": "information",
	"species": "species", "news": "news", "data": "data", "media": "media", "criteria": "criterion",
	"analyses": "analysis", "bases": "base", "databases": "database", "buses": "bus", "gases": "gas", "lenses": "lens",
	"movies": "movie", "cookies": "cookie", "zombies": "zombie", "calories": "calorie", "ties": "tie", "pies": "pie",
	"caches": "cache", "aches": "ache", "shoes": "shoe", "toes": "toe", "quizzes": "quiz", "shelves": "shelf", "leaves": "leaf",
	"halves": "half", "knives": "knife", "wives": "wife", "lives": "life", "indices": "index", "matrices": "matrix",
	"vertices": "vertex", "photos": "photo", "logos": "logo", "videos": "video",
}

// singular makes one of many, for the last word of a table's name.
func singular(w string) string {
	if s, ok := irregular[w]; ok {
		return s
	}
	cut := func(suffix, with string) string { return strings.TrimSuffix(w, suffix) + with }
	switch {
	case len(w) < 3 || !strings.HasSuffix(w, "s"):
		return w
	case hasAny(w, "ss", "us", "is"):
		return w
	case strings.HasSuffix(w, "ies") && len(w) > 4:
		return cut("ies", "y")
	case hasAny(w, "sses", "xes", "ches", "shes", "zzes", "tuses", "nuses", "puses", "ruses"):
		return cut("es", "")
	case strings.HasSuffix(w, "oes"):
		return cut("es", "")
	}
	return cut("s", "")
}

// plural makes many of one; a word that is many already stays.
func plural(w string) string {
	if singular(w) != w {
		return w
	}
	for many, one := range irregular {
		if one == w {
			return many
		}
	}
	switch {
	case hasAny(w, "s", "x", "ch", "sh", "z"):
		return w + "es"
	case strings.HasSuffix(w, "y") && len(w) > 1 && !strings.ContainsRune("aeiou", rune(w[len(w)-2])):
		return w[:len(w)-1] + "ies"
	}
	return w + "s"
}

func hasAny(w string, suffixes ...string) bool {
	for _, s := range suffixes {
		if strings.HasSuffix(w, s) {
			return true
		}
	}
	return false
}

// last applies f to the last of the words.
func last(words []string, f func(string) string) []string {
	if len(words) == 0 {
		return words
	}
	out := append([]string(nil), words...)
	out[len(out)-1] = f(out[len(out)-1])
	return out
}

// births are the words of the business for how something comes to be.
var births = map[string]string{
	"order": "Placed", "customer": "Registered", "user": "Registered", "member": "Registered", "supplier": "Registered",
	"account": "Opened", "ticket": "Opened", "cart": "Opened", "basket": "Opened", "product": "Listed", "article": "Listed",
	"invoice": "Issued", "refund": "Issued", "voucher": "Issued", "coupon": "Issued", "payment": "Received",
	"shipment": "Dispatched", "delivery": "Scheduled", "appointment": "Scheduled", "return": "Accepted",
	"subscription": "Started", "rental": "Started", "contract": "Signed", "booking": "Made", "reservation": "Made",
	"comment": "Posted", "message": "Sent", "review": "Written", "fee": "Charged", "employee": "Hired",
}

// verbal are nouns that already hold the verb: an adjustment is made by
// adjusting.
var verbal = map[string]string{
	"adjustment": "Adjusted", "attempt": "Attempted", "transfer": "Transferred", "movement": "Moved",
}

// participles that do not end in -ed.
var participles = wordSet(`built bought begun bound broken brought caught chosen done drawn forgotten found frozen given gone
	held hidden kept laid left lent lost made met paid put read sent set shown shut sold spent split taken thrown told
	understood withdrawn won written rewritten overpaid unpaid rebuilt resent resold`)

func wordSet(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

func isParticiple(w string) bool {
	return participles[w] || strings.HasSuffix(w, "ed") && len(w) > 3 && w != "need" && w != "seed" && w != "speed" && w != "feed"
}
