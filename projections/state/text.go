package state

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Text writes a value of a Row for people, nearly as Postgres prints it; NULL is
// "NULL".
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return v
	case time.Time:
		if atMidnight(v) {
			return v.UTC().Format(time.DateOnly)
		}
		return v.UTC().Format("2006-01-02 15:04:05.999999Z")
	case json.RawMessage:
		return string(v)
	case []byte:
		return `\x` + hex.EncodeToString(v)
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(v)
}
