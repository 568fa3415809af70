package main_test

import (
	"strings"
	"testing"

	"banyan/internal/pgtest"
)

func TestTeardownWithAnotherStoreDropsNothing(t *testing.T) {
	h := ready(t)
	h.must(0, "run", "--until-caught-up")
	other := pgtest.New(t)
	a := h.must(1, "teardown", "--apply", "--store", other.URL)
	if !strings.Contains(a.Err, "never followed") || !strings.Contains(a.Err, "--force") {
		t.Errorf("the refusal does not say why and what else: %s", a)
	}
	h.confirmed() // the slot is still there
	h.must(0, "run", "--until-caught-up")
	h.proved()
	h.must(0, "teardown", "--apply")
}
