package declared

import (
	"strconv"
	"strings"

	"banyan/event"
	"banyan/expression"
	"banyan/internal/document"
)

// setting is a value that changes at tokens: the first one from the begin, each
// later one for what was committed after its token.
type setting struct {
	steps []settingStep
}

type settingStep struct {
	generation int
	lsn        uint64
	value      any
}

// at gives the value for an event at a position. A token is the end of what it
// covers, so a commit that begins at it comes after it.
func (s *setting) at(p event.Position) any {
	for i := len(s.steps) - 1; i > 0; i-- {
		step := s.steps[i]
		if p.Generation > step.generation || p.Generation == step.generation && p.LSN >= step.lsn {
			return step.value
		}
	}
	return s.steps[0].value
}

func (c *compiler) compileSettings() {
	entries, _ := c.root.Get("settings").Entries()
	for _, e := range entries {
		s := &setting{}
		items, ok := e.List()
		if !ok {
			items = []document.Node{e.Node}
		}
		for i, item := range items {
			from := item.Get("from")
			if _, scalar := item.Scalar(); scalar {
				if i > 0 {
					item.Fault(`want {from: "1:0/1A2B3C8", value: ...}: only the first value holds from the begin`)
				}
				s.steps = append(s.steps, settingStep{value: plainValue(item)})
				continue
			}
			step := settingStep{value: plainValue(item.Get("value"))}
			step.generation, step.lsn = parseToken(from.Text())
			if i == 0 {
				from.Fault("stands first; want the value from the begin before it, as in [3, {from: ..., value: 5}]")
			} else if last := s.steps[len(s.steps)-1]; step.generation < last.generation || step.generation == last.generation && step.lsn <= last.lsn {
				from.Fault("is not after the token before it")
			}
			s.steps = append(s.steps, step)
		}
		c.p.settings[e.Key] = s
	}
}

// parseToken reads a text that has the form of one.
func parseToken(text string) (generation int, lsn uint64) {
	p, err := event.ParsePosition(text + ".0")
	if err != nil {
		return 0, 0
	}
	return p.Generation, p.LSN
}

// plainValue is a scalar of YAML as expressions see it.
func plainValue(v document.Node) any {
	text := v.Text()
	if !v.Plain() {
		return text
	}
	if b, ok := v.Bool(); ok {
		return b
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	d, err := expression.ParseNumber(strings.ReplaceAll(text, "_", ""))
	if err != nil {
		return text
	}
	return d
}
