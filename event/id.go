package event

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Position orders events: generation first, then the commit LSN, then the
// ordinal inside the transaction. Snapshot events carry the ordinal s<number>
// of their snapshot and stand before all changes of the same LSN.
//
// The LSN is kept as a plain number: this package knows no WAL.
type Position struct {
	Generation int
	LSN        uint64
	// Ordinal counts the transaction's published changes from 0. It is 0
	// where Snapshot is set.
	Ordinal  int64
	Snapshot int // number of the snapshot, from 1; 0 for a streamed change
}

// String writes "1:0/1A2B3C8.0", or "1:0/1A2B3C8.s1" for a snapshot.
func (p Position) String() string {
	if p.Snapshot > 0 {
		return fmt.Sprintf("%d:%X/%X.s%d", p.Generation, uint32(p.LSN>>32), uint32(p.LSN), p.Snapshot)
	}
	return fmt.Sprintf("%d:%X/%X.%d", p.Generation, uint32(p.LSN>>32), uint32(p.LSN), p.Ordinal)
}

// Compare orders positions as the source committed them.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Generation, q.Generation); c != 0 {
		return c
	}
	if c := cmp.Compare(p.LSN, q.LSN); c != 0 {
		return c
	}
	if p.Snapshot > 0 != (q.Snapshot > 0) {
		if p.Snapshot > 0 {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(p.Snapshot, q.Snapshot); c != 0 {
		return c
	}
	return cmp.Compare(p.Ordinal, q.Ordinal)
}

// ParsePosition reads what Position.String writes.
func ParsePosition(s string) (Position, error) {
	bad := func() (Position, error) {
		return Position{}, fmt.Errorf("position %q: want generation:LSN.ordinal, such as 1:0/1A2B3C8.0", s)
	}
	gen, rest, ok := strings.Cut(s, ":")
	if !ok {
		return bad()
	}
	lsn, ord, ok := strings.Cut(rest, ".")
	if !ok {
		return bad()
	}
	hi, lo, ok := strings.Cut(lsn, "/")
	if !ok {
		return bad()
	}
	var p Position
	var err error
	if p.Generation, err = strconv.Atoi(gen); err != nil || p.Generation < 1 {
		return bad()
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return bad()
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return bad()
	}
	p.LSN = h<<32 | l
	if n, snap := strings.CutPrefix(ord, "s"); snap {
		if p.Snapshot, err = strconv.Atoi(n); err != nil || p.Snapshot < 1 {
			return bad()
		}
		return p, nil
	}
	if p.Ordinal, err = strconv.ParseInt(ord, 10, 64); err != nil || p.Ordinal < 0 {
		return bad()
	}
	return p, nil
}

// ID names an event: source/Aggregate/key@generation:LSN.ordinal.
type ID struct {
	Source    string // "shop"
	Aggregate string // "Order"
	Key       string // as JoinKey writes it
	Position  Position
}

// String writes "shop/Order/1234@1:0/1A2B3C8.0".
func (id ID) String() string {
	return id.Source + "/" + id.Aggregate + "/" + id.Key + "@" + id.Position.String()
}

// Subject names the entity, "Order/1234": the ce_subject header.
func (id ID) Subject() string { return id.Aggregate + "/" + id.Key }

// ParseID reads what ID.String writes.
func ParseID(s string) (ID, error) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return ID{}, badID(s)
	}
	pos, err := ParsePosition(s[at+1:])
	if err != nil {
		return ID{}, fmt.Errorf("event id %q: %w", s, err)
	}
	source, rest, ok := strings.Cut(s[:at], "/")
	aggregate, key, two := strings.Cut(rest, "/")
	if !ok || !two || source == "" || aggregate == "" || strings.IndexByte(key, '/') >= 0 {
		return ID{}, badID(s)
	}
	if strings.IndexByte(key, '%') >= 0 {
		if _, err := SplitKey(key); err != nil {
			return ID{}, fmt.Errorf("event id %q: %w", s, err)
		}
	}
	return ID{Source: source, Aggregate: aggregate, Key: key, Position: pos}, nil
}

func badID(s string) error {
	return fmt.Errorf("event id %q: want source/Aggregate/key@generation:LSN.ordinal, such as shop/Order/1234@1:0/1A2B3C8.0", s)
}

// JoinKey makes an aggregate's id of the text values of its key columns:
// each part percent-encoded, joined by commas. An empty part stays empty.
func JoinKey(parts ...string) string {
	if len(parts) == 1 {
		return escape(parts[0])
	}
	enc := make([]string, len(parts))
	for i, p := range parts {
		enc[i] = escape(p)
	}
	return strings.Join(enc, ",")
}

// escape percent-encodes every byte that is not unreserved in RFC 3986, so that
// "/", ",", "@" and "%" in a key cannot be taken for our separators.
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	i := 0
	for i < len(s) && unreserved(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	b := make([]byte, i, len(s)+8)
	copy(b, s)
	for ; i < len(s); i++ {
		if c := s[i]; unreserved(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// SplitKey is the inverse of JoinKey.
func SplitKey(key string) ([]string, error) {
	parts := strings.Split(key, ",")
	for i, p := range parts {
		u, err := url.PathUnescape(p)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
		parts[i] = u
	}
	return parts, nil
}
