package proof

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestCanonicalForm(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{"b":1,"a":2}`, `{"a":2,"b":1}`},
		{" { \"a\" : [ 1 , {\"z\":null,\"y\":true} ] }\n", `{"a":[1,{"y":true,"z":null}]}`},
		{`{"a":"\u00e9\/\n\"","b":"é/"}`, `{"a":"é/\u000a\"","b":"é/"}`},
		{`{"n":1.50,"e":1e3,"big":12345678901234567890}`, `{"big":12345678901234567890,"e":1e3,"n":1.50}`},
		{`{"a":{"d":1,"c":{}},"B":[]}`, `{"B":[],"a":{"c":{},"d":1}}`},
		{`{"c":1,"b":22,"a":333}`, `{"a":333,"b":22,"c":1}`},
		{`null`, `null`},
	} {
		got, err := canonical(nil, []byte(tt.in))
		if err != nil || string(got) != tt.want {
			t.Errorf("canonical(%s) = %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{``, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `[1`, `"a`, `{"a":1}x`, `{"a":"\q"}`, `[,]`} {
		if got, err := canonical(nil, []byte(in)); err == nil {
			t.Errorf("canonical(%s) = %s, want an error", in, got)
		}
	}
}

func TestStateOf(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{"occurredAt":"2026-01-01T00:00:00Z","lines":[{"state":9}],"x":"a\"}","state":{"id":1} ,"changed":[]}`, `{"id":1}`},
		{`{"state":null,"last":{"id":1}}`, ``},
	} {
		got, err := stateOf([]byte(tt.in))
		if err != nil || string(got) != tt.want {
			t.Errorf("stateOf(%s) = %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{``, `[]`, `{}`, `{"last":{}}`, `{"state":1}`, `{"state":`, `{"a":"b`} {
		if got, err := stateOf([]byte(in)); err == nil {
			t.Errorf("stateOf(%s) = %s, want an error", in, got)
		}
	}
}

func TestFields(t *testing.T) {
	got := fields([]byte(`{"a":1,"é\"":{"x":[1,2]},"z":"},"}`))
	want := []field{{"a", []byte(`1`)}, {`é"`, []byte(`{"x":[1,2]}`)}, {"z", []byte(`"},"`)}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("fields = %q, want %q", got, want)
	}
}

// FuzzCanonical holds that the canonical form means the same and is its own
// canonical form.
func FuzzCanonical(f *testing.F) {
	f.Add([]byte(`{"b":[1,2,{"x":"\u0000"}],"a":null}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := canonical(nil, b)
		if !json.Valid(b) {
			return // looser than JSON: only what came out whole is compared
		}
		if err != nil {
			t.Fatalf("canonical(%q): %v", b, err)
		}
		var x, y any
		if err := json.Unmarshal(b, &x); err != nil {
			return // a number out of range
		}
		if err := json.Unmarshal(got, &y); err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("canonical(%q) = %q: %v", b, got, err)
		}
		again, err := canonical(nil, got)
		if err != nil || string(again) != string(got) {
			t.Fatalf("canonical(%q) = %q, then %q, %v", b, got, again, err)
		}
	})
}

// FuzzStateOf holds that the quick way to a state finds what a JSON parser
// finds.
func FuzzStateOf(f *testing.F) {
	f.Add([]byte(`{"a":[{"state":1},"\"}"],"state":{"id":"]"},"changed":["x"]}`))
	f.Add([]byte(`{"last":{},"state":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := stateOf(b)
		if !json.Valid(b) {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		if tok, _ := dec.Token(); tok != json.Delim('{') {
			if err == nil {
				t.Fatalf("stateOf(%q) = %q, want an error", b, got)
			}
			return
		}
		for dec.More() {
			name, _ := dec.Token()
			var want json.RawMessage
			if err := dec.Decode(&want); err != nil {
				t.Fatal(err)
			}
			if name != "state" {
				continue
			}
			switch {
			case string(want) == "null":
				want = nil
			case want[0] != '{':
				if err == nil {
					t.Fatalf("stateOf(%q) = %q, want an error", b, got)
				}
				return
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("stateOf(%q) = %q, %v; want %q", b, got, err, want)
			}
			return
		}
		if err == nil {
			t.Fatalf("stateOf(%q) = %q, want an error", b, got)
		}
	})
}
