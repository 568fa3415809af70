package page

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banyan/compare"

	nethtml "golang.org/x/net/html"
)

func html(t *testing.T, r *compare.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, r, Options{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// elements and attributes are all that a page may have.
var (
	elements = strings.Fields(`html head meta title style body a header nav main section footer aside h1 h2 h3 p ul ol li dl dt dd div span
		strong bdi code table caption thead tbody tfoot tr th td figure figcaption svg desc line rect path text details summary script noscript`)
	attributes = strings.Fields(`lang charset content http-equiv name id class href role tabindex scope colspan type open hidden
		aria-label aria-labelledby aria-current aria-hidden viewbox viewBox x y x1 y1 x2 y2 width height d text-anchor focusable`)
)

// checkPage parses a page and holds it against what is promised of every one.
func checkPage(t *testing.T, page []byte, script *string) {
	t.Helper()
	root, err := nethtml.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	ids := map[string]bool{}
	var refs []string
	for n := range root.Descendants() {
		if n.Type != nethtml.ElementNode {
			continue
		}
		seen[n.Data]++
		if !slices.Contains(elements, n.Data) {
			t.Errorf("an element that no template has: <%s>", n.Data)
		}
		for _, a := range n.Attr {
			if !slices.Contains(attributes, a.Key) {
				t.Errorf("<%s> has an attribute that no template has: %s", n.Data, a.Key)
			}
			switch a.Key {
			case "id":
				if ids[a.Val] {
					t.Errorf("id %q is there twice", a.Val)
				}
				ids[a.Val] = true
			case "href":
				checkLink(t, a.Val, &refs)
			case "aria-labelledby":
				refs = append(refs, strings.Fields(a.Val)...)
			}
		}
		checkElement(t, n, script)
	}
	for _, id := range refs {
		if !ids[id] {
			t.Errorf("nothing has the id %q that is pointed at", id)
		}
	}
	for _, once := range []string{"h1", "main", "header", "footer", "title"} {
		if want := 1; once != "title" && seen[once] != want {
			t.Errorf("%d <%s>, want one", seen[once], once)
		}
	}
}

func checkLink(t *testing.T, href string, refs *[]string) {
	t.Helper()
	switch {
	case strings.HasPrefix(href, "#"):
		*refs = append(*refs, href[1:])
	case slices.Contains([]string{"report.html", "report.md", "report.json", "?view=wall"}, href):
	default:
		t.Errorf("a link to somewhere: %q", href)
	}
}

var outside = regexp.MustCompile(`(?i)url\(|@import|//|expression\(`)

func checkElement(t *testing.T, n *nethtml.Node, script *string) {
	t.Helper()
	text := ""
	for c := range n.ChildNodes() {
		if c.Type == nethtml.TextNode {
			text += c.Data
		}
	}
	attr := func(key string) string {
		for _, a := range n.Attr {
			if a.Key == key {
				return a.Val
			}
		}
		return ""
	}
	switch n.Data {
	case "style":
		if at := outside.FindString(text); at != "" {
			t.Errorf("the style sheet has %q in it", at)
		}
	case "script":
		if attr("type") != "application/json" && (script == nil || text != *script) {
			t.Errorf("a script that is not ours: %.80q", text)
		}
	case "svg":
		if attr("aria-hidden") != "true" && (attr("role") != "img" || attr("aria-labelledby") == "") {
			t.Error("a chart without a name")
		}
	case "section", "aside":
		if attr("aria-labelledby") == "" {
			t.Errorf("a <%s> without a heading", n.Data)
		}
	case "nav":
		if attr("aria-label") == "" {
			t.Error("a <nav> without a name")
		}
	case "th":
		if s := attr("scope"); s != "col" && s != "row" {
			t.Errorf("a <th> without scope: %s", text)
		}
	case "table":
		if n.FirstChild == nil || !hasChild(n, "caption") {
			t.Error("a table without a caption")
		}
	}
}

func hasChild(n *nethtml.Node, name string) bool {
	for c := range n.ChildNodes() {
		if c.Data == name {
			return true
		}
	}
	return false
}

// TestNothingGetsOut puts hostile names into every text of a report.
func TestNothingGetsOut(t *testing.T) {
	checkPage(t, html(t, sample()), nil)
	long := strings.Repeat("very long ", 1_000)
	for _, name := range append(slices.Clone(nasty), long, "</style><style>*{display:none}", "<!--", "]]>", "\xff\xfe", "{{.}}", "<svg onload=alert(1)>", "</title><h1>") {
		r := sample()
		r.Candidate.Name, r.Candidate.Build, r.Candidate.Mode = name, name, name
		r.Verdict.Sentence, r.Verdict.Why, r.Assumptions = name, []string{name}, []string{name}
		r.Currencies[0].Currency = name
		r.Currencies[0].Gainers[0].Description, r.Currencies[0].Gainers[0].Code = name, name
		r.Currencies[0].Examples[0].Replay, r.Currencies[0].Examples[0].Line.Rule = name, name
		r.Currencies[0].Causes[0].Cause, r.Currencies[0].Days[0].Day = compare.Cause(name), name
		r.Inputs.Digest, r.Guardrails[0].Name = name, name
		page := html(t, r)
		checkPage(t, page, nil)
		shown, _, _ := strings.Cut(string(page), `<script type="application/json"`)
		for _, bad := range []string{"\u202e", "\x00", "\x1b"} {
			if strings.Contains(shown, bad) {
				t.Errorf("%.40q: %q is on the page", name, bad)
			}
		}
		if strings.Contains(shown, strings.Repeat("very long ", 100)) {
			t.Error("a long name is not cut")
		}
	}
}

// TestMarkdownEscapes: nothing from outside is HTML, a cell, a link or a user's name.
func TestMarkdownEscapes(t *testing.T) {
	r := sample()
	r.Verdict.Sentence = "see @alice, #7777, <b>, a | b, [x](http://y) and `z`"
	r.Currencies[0].Examples[0].Line.Description = "@bob | http://evil <img src=x>`"
	var b bytes.Buffer
	if err := Markdown(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"@alice", "@bob", "#7777", "<b>", "a | b", "](", "http://", "<img", "<script", "`"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("the Markdown has %q in it", bad)
		}
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if strings.HasPrefix(line, "| ") && strings.HasPrefix(line, "| <code>") && strings.Count(line, " | ") != 5 {
			t.Errorf("a row of examples with %d bars: %s", strings.Count(line, " | "), line)
		}
	}
}

// TestContrast computes the contrast of every pair of colours that text stands on, in
// both schemes and on paper, by WCAG 2.2: at least 4.5 for text, 3 for shapes.
func TestContrast(t *testing.T) {
	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(styles, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d sets of colours, want light, dark and print", len(blocks))
	}
	colour := regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6})`)
	for i, scheme := range []string{"light", "dark", "print"} {
		c := map[string]string{}
		for _, m := range colour.FindAllStringSubmatch(blocks[i][1], -1) {
			c[m[1]] = m[2]
		}
		for _, on := range []string{"paper", "ground", "band", "loss-ground"} {
			for _, of := range []string{"ink", "soft", "accent", "loss"} {
				if got := contrast(t, c[of], c[on]); got < 4.5 {
					t.Errorf("%s: text in %s on %s has a contrast of %.2f", scheme, of, on, got)
				}
			}
			for _, of := range []string{"shape-accent", "shape-loss"} {
				if got := contrast(t, c[of], c[on]); got < 3 {
					t.Errorf("%s: a shape in %s on %s has a contrast of %.2f", scheme, of, on, got)
				}
			}
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	la, lb := luminance(t, a), luminance(t, b)
	return (max(la, lb) + .05) / (min(la, lb) + .05)
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) != 7 {
		t.Fatalf("%q is no colour", hex)
	}
	sum := 0.0
	for i, weight := range []float64{.2126, .7152, .0722} {
		n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		v := float64(n) / 255
		if v <= .04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}

// TestLetters: no size in the style sheet is below 12 pixels at the smallest size of
// the root, and a chart is never shown smaller than it is drawn.
func TestLetters(t *testing.T) {
	for _, m := range regexp.MustCompile(`font-size: (?:clamp\()?(?:max\()?([0-9.]+)(px|rem|em|pt)`).FindAllStringSubmatch(styles, -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		size := map[string]float64{"px": 1, "rem": 16, "em": 16, "pt": 4. / 3}[m[2]] * n
		if size < 12 {
			t.Errorf("%s: %.1f pixels", m[0], size)
		}
	}
}

// TestLabels: no label of a chart covers another or leaves its canvas, even where
// letters are wide.
func TestLabels(t *testing.T) {
	for name, r := range map[string]*compare.Report{"sample": sample(), "crowded": crowded()} {
		for i, m := range r.Currencies {
			for _, c := range []*chart{curveChart(i, m), intervalChart(i, m), movesChart(i, m), daysChart(i, m)} {
				if c == nil {
					continue
				}
				for _, d := range c.Drawings {
					checkLabels(t, name+" "+d.ID, d)
				}
			}
		}
	}
}

// crowded has break-evens side by side, amounts of many digits, many bars.
func crowded() *compare.Report {
	r := sample()
	m := &r.Currencies[0]
	m.Demand.Revenue.Constant = []float64{-1, -1.01, -4.99}
	m.Demand.Margin.Constant = []float64{-1.02, -4.98, -.01}
	for i := range m.Demand.Curve {
		m.Demand.Curve[i].Revenue.Amount *= 1_234_567
		m.Demand.Curve[i].Margin.Amount *= -1_234_567
	}
	for i := range 40 {
		m.Moves = append(m.Moves, compare.MoveBar{From: 100 + float64(i)/3, To: 100 + float64(i+1)/3, Lines: 1_000_000 * int64(i)})
	}
	m.Days = sampleDays("GBP", 400)
	return r
}

func checkLabels(t *testing.T, name string, d drawing) {
	t.Helper()
	const letterWidth, height = 7.2, 12
	type box struct {
		x, y, x2, y2 px
		text         string
	}
	var boxes []box
	for _, s := range d.Shapes {
		if s.Kind != "text" {
			continue
		}
		w := px(len([]rune(s.Text))) * letterWidth
		x := s.X
		switch s.Anchor {
		case "middle":
			x -= w / 2
		case "end":
			x -= w
		}
		b := box{x, s.Y - height + 2, x + w, s.Y + 2, s.Text}
		if b.x < -1 || b.x2 > d.W+1 || b.y < 0 || b.y2 > d.H {
			t.Errorf("%s: %q leaves the canvas of %s x %s: %s..%s, %s..%s", name, s.Text, d.W, d.H, b.x, b.x2, b.y, b.y2)
		}
		for _, o := range boxes {
			if b.x < o.x2 && o.x < b.x2 && b.y < o.y2 && o.y < b.y2 {
				t.Errorf("%s: %q covers %q", name, b.text, o.text)
			}
		}
		boxes = append(boxes, b)
	}
}

// TestAxis: ticks are round, in order, and hold what is to be shown.
func TestAxis(t *testing.T) {
	for _, tc := range []struct {
		low, high float64
		ticks     int
		want      string
	}{
		{0, 7_421, 6, "0 2k 4k 6k 8k"},
		{-16_700, 7_421, 6, "−20k −15k −10k −5k 0 5k 10k"},
		{0, 1, 5, "0 0.2 0.4 0.6 0.8 1"},
		{-121, 150, 5, "−200 −100 0 100 200"},
		{0, 0, 3, "−1 0 1"},
		{0, 2_500_000, 5, "0 0.5m 1m 1.5m 2m 2.5m"},
		{0, 9e15, 3, "0 5,000tn 10,000tn"},
	} {
		a := newAxis(tc.low, tc.high, 0, 100, tc.ticks)
		var got []string
		for _, f := range a.Ticks {
			got = append(got, a.label(f))
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%v to %v: %s, want %s", tc.low, tc.high, strings.Join(got, " "), tc.want)
		}
		if a.Low > tc.low || a.High < tc.high {
			t.Errorf("%v to %v: the axis ends at %v and %v", tc.low, tc.high, a.Low, a.High)
		}
		if at := a.place(math.NaN()); at != 0 {
			t.Errorf("nothing lies at %v", at)
		}
	}
	for _, f := range []float64{math.Inf(1), math.NaN(), 1e308, -1e308, 5e-324} {
		a := newAxis(0, f, 0, 100, 5)
		if len(a.Ticks) > 40 {
			t.Errorf("%v gives %d ticks", f, len(a.Ticks))
		}
		_ = fmt.Sprint(a.label(f))
	}
}
