//go:build slow

package page

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/compare"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

var shots = flag.String("shots", "", "a folder for pictures of the pages; none without it")

// look is how somebody looks at a page.
type look struct {
	name          string
	width, height int64
	scheme, media string
}

var looks = []look{
	{"light", 1280, 900, "light", "screen"},
	{"dark", 1280, 900, "dark", "screen"},
	{"phone", 320, 640, "light", "screen"},
	{"phone-dark", 390, 800, "dark", "screen"},
	{"tablet", 768, 1024, "light", "screen"},
	{"large", 3840, 2160, "light", "screen"},
	{"print", 680, 960, "light", "print"},
}

// browser is a Chromium with what it said and asked for.
type browser struct {
	ctx  context.Context
	mu   sync.Mutex
	said []string
	asks []string
}

func open(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium on the path")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("no-sandbox", true), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &browser{ctx: ctx}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	messages := chromedp.Console(ctx)
	go func() { // ends with the browser
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.said = append(b.said, m.String())
			b.mu.Unlock()
		}
	}()
	return b
}

func (b *browser) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := ev.(type) {
	case *network.EventRequestWillBeSent:
		b.asks = append(b.asks, e.Request.URL)
	case *page.EventJavascriptDialogOpening:
		b.said = append(b.said, "a dialog: "+e.Message)
	}
}

func (b *browser) heard() (said, asks []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.said), slices.Clone(b.asks)
}

func (b *browser) visit(t *testing.T, url string, l look) {
	t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: l.media,
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(b.ctx, chromedp.EmulateViewport(l.width, l.height), chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
}

func (b *browser) shoot(t *testing.T, name string) {
	t.Helper()
	if *shots == "" {
		return
	}
	raw, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// measured is what a page says of how it is laid out.
type measured struct {
	Overflow  []string `json:"overflow"`  // elements that reach out of the window
	Small     []string `json:"small"`     // texts below 12 pixels
	Faint     []string `json:"faint"`     // texts with too little contrast
	Covered   []string `json:"covered"`   // labels of a chart that cover each other or leave it
	Cut       []string `json:"cut"`       // tables that can't be scrolled to their end
	Charts    int      `json:"charts"`    // that are to be seen
	Closed    int      `json:"closed"`    // tables that nobody sees
	Scripted  bool     `json:"scripted"`  // something from outside has run
	Wide      float64  `json:"wide"`      // of the page
	Ground    string   `json:"ground"`    // colour behind everything
	TextCount int      `json:"textCount"` // of texts looked at
}

const measure = `(() => {
  const out = {overflow: [], small: [], faint: [], covered: [], cut: [], charts: 0, closed: 0, scripted: !!window.hacked, wide: document.documentElement.scrollWidth, ground: getComputedStyle(document.body).backgroundColor, textCount: 0};
  const width = document.documentElement.clientWidth;
  const name = e => e.tagName + "." + (e.className.baseVal ?? e.className) + " " + (e.textContent || "").trim().slice(0, 40);
  const seen = e => { const r = e.getBoundingClientRect(); return r.width > 1 && r.height > 1 && e.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true}); };
  const rgb = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const lum = c => { const f = v => { v /= 255; return v <= .04045 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4); }; return .2126 * f(c[0]) + .7152 * f(c[1]) + .0722 * f(c[2]); };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  for (const e of document.body.querySelectorAll("*")) {
    if (!seen(e) || e.closest(".heard, .skip, script, style")) continue;
    const r = e.getBoundingClientRect();
    if ((r.right > width + 1 || r.left < -1) && !e.closest(".scroll > *")) out.overflow.push(name(e));
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    out.textCount++;
    const style = getComputedStyle(e);
    let size = parseFloat(style.fontSize);
    const svg = e.closest("svg");
    if (svg) { const box = svg.viewBox.baseVal; size *= svg.getBoundingClientRect().width / box.width; }
    if (size < 11.95) out.small.push(size.toFixed(1) + " " + name(e));
    const ink = rgb(svg ? style.fill : style.color), paper = behind(e);
    const a = lum(ink), b = lum(paper), contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < 4.5) out.faint.push(contrast.toFixed(2) + " " + name(e));
  }
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    if (!seen(svg)) continue;
    out.charts++;
    const frame = svg.getBoundingClientRect(), boxes = [];
    for (const text of svg.querySelectorAll("text")) {
      const r = text.getBoundingClientRect(), b = {x: r.left, x2: r.right, y: r.top + r.height * .2, y2: r.bottom - r.height * .2, t: text.textContent};
      if (r.left < frame.left - 2 || r.right > frame.right + 2 || r.bottom > frame.bottom + 2 || r.top < frame.top - 2) out.covered.push("leaves: " + b.t);
      for (const o of boxes) if (b.x < o.x2 && o.x < b.x2 && b.y < o.y2 && o.y < b.y2) out.covered.push(b.t + " covers " + o.t);
      boxes.push(b);
    }
  }
  for (const table of document.querySelectorAll("table")) {
    if (!table.checkVisibility({contentVisibilityAuto: true}) || table.getBoundingClientRect().height < 2) { out.closed++; continue; }
    const box = table.parentElement;
    if (table.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "auto") out.cut.push(table.caption.textContent);
  }
  return out;
})()`

// TestBrowser opens the page as a file, as different people would.
func TestBrowser(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{}
	for name, write := range map[string]func(*os.File) error{
		"sample":    func(f *os.File) error { return HTML(f, hostile(), Options{}) },
		"wall":      func(f *os.File) error { return HTML(f, sample(), Options{Wall: true}) },
		"unhealthy": func(f *os.File) error { return HTML(f, onRung(compare.Unhealthy), Options{}) },
		"ready":     func(f *os.File) error { return HTML(f, onRung(compare.Ready), Options{}) },
		"crowded":   func(f *os.File) error { return HTML(f, crowded(), Options{}) },
	} {
		f, err := os.Create(filepath.Join(dir, name+".html"))
		if err != nil {
			t.Fatal(err)
		}
		if err := write(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		files[name] = "file://" + f.Name()
	}
	b := open(t)
	for _, name := range []string{"sample", "crowded", "unhealthy", "ready"} {
		for _, l := range looks {
			b.visit(t, files[name], l)
			b.check(t, name+"-"+l.name, l)
		}
	}
	for _, l := range []look{{"wall", 1920, 1080, "dark", "screen"}, {"wall-4k", 3840, 2160, "light", "screen"}, {"wall-phone", 320, 640, "light", "screen"}} {
		b.visit(t, files["wall"], l)
		b.check(t, l.name, l)
	}
	b.visit(t, files["sample"], looks[0])
	b.landmarks(t)
	b.pdf(t)
	said, asks := b.heard()
	for _, s := range said {
		t.Errorf("the console says: %s", s)
	}
	for _, a := range asks {
		if !strings.HasPrefix(a, "file://"+dir) && a != "about:blank" {
			t.Errorf("the page asks for %s", a)
		}
	}
}

// hostile is sample with names that would leave a trace if they ran.
func hostile() *compare.Report {
	r := sample()
	for i, name := range []string{"<script>window.hacked=1</script>", `"><img src=x onerror="window.hacked=1">`, `<svg onload="window.hacked=1">`} {
		r.Currencies[0].Gainers[i].Description = name
	}
	return r
}

func (b *browser) check(t *testing.T, name string, l look) {
	t.Helper()
	m, err := chromedp.Run(b.ctx, chromedp.Evaluate[measured](measure))
	if err != nil {
		t.Fatal(err)
	}
	b.shoot(t, name)
	for what, all := range map[string][]string{"reaches out of the window": m.Overflow, "is too small": m.Small, "is too faint": m.Faint, "labels": m.Covered, "cannot be scrolled": m.Cut} {
		if len(all) > 0 {
			t.Errorf("%s: %s: %d, such as %q", name, what, len(all), all[:min(5, len(all))])
		}
	}
	if m.Wide > float64(l.width) {
		t.Errorf("%s: the page is %v pixels wide, the window %d", name, m.Wide, l.width)
	}
	if m.Scripted {
		t.Errorf("%s: a name of a product has run", name)
	}
	if m.TextCount < 10 {
		t.Errorf("%s: only %d texts are to be seen", name, m.TextCount)
	}
	if l.media == "print" && (m.Closed > 0 || m.Ground != "rgb(255, 255, 255)") {
		t.Errorf("%s: on paper %d tables are closed, and the ground is %s", name, m.Closed, m.Ground)
	}
	if dark := m.Ground == "rgb(15, 17, 20)"; l.media == "screen" && dark != (l.scheme == "dark") {
		t.Errorf("%s: the ground is %s", name, m.Ground)
	}
}

// landmarks looks at the page as a screen reader does.
func (b *browser) landmarks(t *testing.T) {
	t.Helper()
	res, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(v *accessibility.Value) string {
		var s string
		if v != nil {
			_ = json.Unmarshal([]byte(v.Value), &s)
		}
		return s
	}
	roles, charts, nameless := map[string]int{}, map[string]int{}, 0
	for _, n := range res.Nodes {
		if n.Ignored {
			continue
		}
		role := text(n.Role)
		roles[role]++
		switch role {
		case "image", "img":
			charts[text(n.Name)]++
		case "region", "table", "navigation", "complementary":
			if text(n.Name) == "" {
				nameless++
			}
		}
	}
	for role, want := range map[string]int{"banner": 1, "navigation": 1, "main": 1, "contentinfo": 1, "complementary": 1, "region": len(sections)} {
		if roles[role] != want {
			t.Errorf("%d of the role %s, want %d", roles[role], role, want)
		}
	}
	if nameless > 0 {
		t.Errorf("%d landmarks and tables have no name", nameless)
	}
	if len(charts) < 8 {
		t.Errorf("charts are named %v", charts)
	}
	for name, n := range charts {
		if n != 1 {
			t.Errorf("the chart %q is there %d times for a screen reader", name, n)
		}
	}
}

func (b *browser) pdf(t *testing.T) {
	t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{}); err != nil {
		t.Fatal(err)
	}
	raw, err := chromedp.Run(b.ctx, chromedp.PrintToPDF(chromedp.PDFPreferCSSPageSize(), chromedp.PDFPrintBackground()))
	if err != nil {
		t.Fatal(err)
	}
	pages := strings.Count(string(raw), "/Type /Page\n")
	if pages < 5 || pages > 24 {
		t.Errorf("%d pages of paper", pages)
	}
	if *shots != "" {
		if err := os.WriteFile(filepath.Join(*shots, "report.pdf"), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBrowserLive: the live page brings itself up to date behind a proxy, without
// losing what its reader has opened.
func TestBrowserLive(t *testing.T) {
	r := &run{data: sampleLive()}
	live := NewLiveServer(r.source, LiveOptions{Every: 100 * time.Millisecond})
	base := behind(t, live)
	b := open(t)
	b.visit(t, base, looks[0])
	wait := func(what, expression string) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for { // a page that loads itself anew ends a poll
			_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(10*time.Second)))
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("wait until %s: %v", what, err)
			}
		}
	}
	wait("the page listens", `document.getElementById("said").textContent.includes("review")`)
	b.check(t, "live", looks[0])
	if err := chromedp.Do(b.ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("#demand details").open = true; document.querySelector("#demand summary").focus()`)); err != nil {
		t.Fatal(err)
	}
	changed := sampleLive()
	changed.Status.LagRecords = 4_711
	changed.Report.Currencies[0].Demand.Revenue.Sentence = "Something has changed."
	r.set(func(r *run) { r.data = changed })
	wait("the lag is new", `document.getElementById("status").textContent.includes("4,711")`)
	wait("the sentence is new", `document.getElementById("demand").textContent.includes("Something has changed.")`)
	wait("what was open is open, and has the focus", `document.querySelector("#demand details").open && document.activeElement === document.querySelector("#demand summary")`)

	r.set(func(r *run) { changed.Report = onRung(compare.Unhealthy); r.data = changed })
	wait("the money is gone", `document.body.textContent.includes("No money is shown.") && !document.getElementById("segments")`)
	wait("a screen reader is told", `document.getElementById("said").textContent.includes("unhealthy")`)
	for _, l := range []look{{"live-wall", 1920, 1080, "dark", "screen"}, {"live-phone", 320, 640, "light", "screen"}} {
		if err := chromedp.Do(b.ctx, chromedp.Navigate("about:blank")); err != nil {
			t.Fatal(err) // else the page before would load itself anew under our feet
		}
		r.set(func(r *run) { r.data = sampleLive() })
		view := ""
		if l.name == "live-wall" {
			view = "?view=wall"
		}
		b.visit(t, base+view, l)
		wait("the page listens", `location.search === "`+view+`" && document.getElementById("said").textContent.includes("review")`)
		b.check(t, l.name, l)
	}
	said, asks := b.heard()
	for _, s := range said {
		t.Errorf("the console says: %s", s)
	}
	for _, a := range asks {
		if !strings.HasPrefix(a, base) && a != "about:blank" {
			t.Errorf("the page asks for %s", a)
		}
	}
	live.Close()
	wait("the page says that nothing comes any more", `!document.getElementById("lost").hidden`)
}

// TestBrowserWithoutScript: without scripts the live page is whole, and asks again.
func TestBrowserWithoutScript(t *testing.T) {
	base := behind(t, NewLiveServer((&run{data: sampleLive()}).source, LiveOptions{}))
	b := open(t)
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	b.visit(t, base, looks[0])
	resp, body := get(t, base)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, fmt.Sprintf(`<noscript><meta http-equiv="refresh" content="%s"></noscript>`, noScript)) {
		t.Error("the page would not ask again")
	}
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("#money")))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "7,421.30") {
		t.Errorf("the money reads %q", text)
	}
}
