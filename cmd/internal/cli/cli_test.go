package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
)

// said is what an invocation answers.
type said struct {
	code     int
	out, err string
}

var errStale = errors.New("somebody has to decide")

// invoke runs a program with one command, "do KEY", whose work is given.
func invoke(t *testing.T, env map[string]string, work func(a *cli.App, c *cobra.Command) error, args ...string) said {
	t.Helper()
	var out, errw bytes.Buffer
	a := cli.New("prog", func(name string) string { return env[name] }, &out, &errw)
	a.Refused = func(err error) bool { return errors.Is(err, errStale) }
	root := &cobra.Command{Use: "prog", Short: "A program", Example: "  prog do it"}
	a.DataDirFlag(root, "a `directory`")
	do := &cobra.Command{Use: "do KEY", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, _ []string) error { return work(a, c) }}
	do.Flags().Int("limit", 5, "how many")
	cli.Profiled(do)
	root.AddCommand(do, a.EmbeddedCommand("the state"))
	code := a.Run(context.Background(), root, args)
	return said{code, out.String(), errw.String()}
}

func TestExitCodes(t *testing.T) {
	_, unreadable := pgx.ParseConfig("postgres://me:s3cret@host:port/db")
	for _, tc := range []struct {
		err  error
		code int
		says string
	}{
		{nil, 0, ""},
		{cli.ErrNo, 1, ""},
		{cli.AnswerNo("it differs"), 1, "prog: it differs\n"},
		{fmt.Errorf("look: %w", errStale), 1, "prog: look: somebody has to decide\n"},
		{fmt.Errorf("look: %w", cli.BadInput("what is %q", "x")), 2, "prog: look: what is \"x\"\n"},
		{unreadable, 2, "prog: cannot parse it: failed to parse as URL"},
		{cli.Failed("gone: %w", errStale), 3, "prog: gone: somebody has to decide\n"},
		{io.ErrUnexpectedEOF, 3, "prog: unexpected EOF\n"},
		{errors.New("connect to postgres://me:s3cret@host/db?password=s3cret"), 3, "prog: connect to postgres://me:xxxxx@host/db?password=xxxxx\n"},
		{errors.New(`ask https://:s3cret@candidate:9000/quotes, then kafka+ssl://me:s3cret@broker:9092: no`), 3, "prog: ask https://:xxxxx@candidate:9000/quotes, then kafka+ssl://me:xxxxx@broker:9092: no\n"},
		{errors.New(`see {"a":"http://127.0.0.1:8080","owner":"shop@host"} and http://me:s3cr@s3cret@host/q`), 3, `prog: see {"a":"http://127.0.0.1:8080","owner":"shop@host"} and http://me:xxxxx@host/q` + "\n"},
		{errors.New("see https://docs.example.com:8080/a:b@c"), 3, "prog: see https://docs.example.com:8080/a:b@c\n"},
	} {
		got := invoke(t, nil, func(*cli.App, *cobra.Command) error { return tc.err }, "do", "it")
		if got.code != tc.code || tc.says == "" && got.err != "" || !strings.HasPrefix(got.err, tc.says) || strings.Contains(got.err, "s3cret") {
			t.Errorf("%v ends with %d and says %q, want %d and %q", tc.err, got.code, got.err, tc.code, tc.says)
		}
	}
	if cli.SaysNo(errStale) || !cli.SaysNo(cli.ErrNo) || !cli.SaysNo(fmt.Errorf("a: %w", cli.AnswerNo("b"))) || cli.SaysNo(cli.BadInput("c")) {
		t.Error("SaysNo is wrong")
	}
}

func TestWrongInput(t *testing.T) {
	never := func(*cli.App, *cobra.Command) error { t.Error("the command was reached"); return nil }
	for _, tc := range []struct {
		args []string
		env  map[string]string
		says []string
	}{
		{[]string{"undo"}, nil, []string{`there is no command "undo"`, "prog --help"}},
		{[]string{"do"}, nil, []string{"usage: prog do KEY"}},
		{[]string{"do", "it", "--nothing"}, nil, []string{"--nothing", "prog do --help lists the flags"}},
		{[]string{"do", "it", "--limit", "many"}, nil, []string{`"many"`}},
		{[]string{"do", "it", "-o", "xml"}, map[string]string{"BANYAN_LIMIT": "few", "BANYAN_VERBOSE": "perhaps"}, []string{`BANYAN_LIMIT="few"`, `BANYAN_VERBOSE="perhaps"`, "want text or json"}},
	} {
		got := invoke(t, tc.env, never, tc.args...)
		for _, want := range tc.says {
			if got.code != cli.CodeInput || got.out != "" || !strings.Contains(got.err, want) {
				t.Errorf("%v: want exit 2 and %q, got %+v", tc.args, want, got)
			}
		}
	}
	if got := invoke(t, nil, never, "embedded", "--help"); got.code != 0 || !strings.Contains(got.out, "prog embedded stop") || strings.Contains(got.out, "serve-broker") {
		t.Errorf("help of embedded: %+v", got)
	}
	if got := invoke(t, nil, never); got.code != 0 || !strings.Contains(got.out, "Available Commands") {
		t.Errorf("no command at all: %+v", got)
	}
}

func TestFlagGoesBeforeEnvironment(t *testing.T) {
	env := map[string]string{"BANYAN_LIMIT": "7", "BANYAN_DATA_DIR": "there", "BANYAN_OUTPUT": "json", "BANYAN_HELP": "true"}
	show := func(a *cli.App, c *cobra.Command) error {
		limit, err := c.Flags().GetInt("limit")
		if err != nil {
			return err
		}
		a.Log.Debug("only with --verbose")
		fmt.Fprintln(a.Print.Aside(), "aside")
		a.Print.Text(func(w io.Writer) { fmt.Fprintln(w, "only as text") })
		return a.Print.Line(map[string]any{"limit": limit, "dir": a.DataDir}, func(w io.Writer) { fmt.Fprintln(w, limit, a.DataDir) })
	}
	if got := invoke(t, env, show, "do", "it"); got.out != "{\"dir\":\"there\",\"limit\":7}\n" || got.err != "aside\n" {
		t.Errorf("from the environment: %+v", got)
	}
	got := invoke(t, env, show, "do", "it", "--limit", "9", "--data-dir=here", "-o", "text", "-v")
	if got.out != "only as text\n9 here\n" || !strings.Contains(got.err, "only with --verbose") {
		t.Errorf("flags beside the environment: %+v", got)
	}
	if got := invoke(t, nil, show, "do", "it"); got.out != "only as text\n5 banyan-data\n" {
		t.Errorf("neither: %+v", got)
	}
}

func TestResult(t *testing.T) {
	show := func(a *cli.App, _ *cobra.Command) error {
		if a.Print.Colour() {
			t.Error("colour where there is no terminal")
		}
		return a.Print.Result(map[string]any{"a": "<b>"}, func(w io.Writer) {
			fmt.Fprintln(w, a.Print.Good("good"), a.Print.Bad("bad"), a.Print.Warn("warn"), a.Print.Dim("dim"))
		})
	}
	if got := invoke(t, nil, show, "do", "it", "-o", "json"); got.out != "{\n  \"a\": \"<b>\"\n}\n" {
		t.Errorf("as JSON: %q", got.out)
	}
	if got := invoke(t, nil, show, "do", "it"); got.out != "good bad warn dim\n" {
		t.Errorf("as text: %q", got.out)
	}
}

func TestProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu")
	done := func(*cli.App, *cobra.Command) error { return cli.ErrNo }
	if got := invoke(t, nil, done, "do", "it", "--cpuprofile", file); got.code != 1 {
		t.Errorf("%+v", got)
	}
	if st, err := os.Stat(file); err != nil || st.Size() == 0 {
		t.Errorf("there is no profile: %v", err)
	}
	if got := invoke(t, nil, done, "do", "it", "--cpuprofile", filepath.Join(file, "x")); got.code != 2 {
		t.Errorf("a profile that cannot be made: %+v", got)
	}
}

func TestHealthIsServedUntilTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	why := ""
	listening, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- cli.Serve(ctx, "--look", "127.0.0.1:0", cli.Health(func() string { return why }), func(url string) error { listening <- url; return nil })
	}()
	url := <-listening
	ask := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		if code, body := ask(path); code != 200 || body != want {
			t.Errorf("%s says %d %q", path, code, body)
		}
	}
	if code, body := ask("/metrics"); code != 200 || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics says %d %q", code, body)
	}
	why = "Kafka is away"
	if code, body := ask("/readyz"); code != 503 || body != why+"\n" {
		t.Errorf("/readyz says %d %q", code, body)
	}
	second := cli.Serve(ctx, "--look", strings.TrimPrefix(url, "http://"), nil, func(string) error { t.Error("two listen on one address"); return nil })
	if e := (*cli.Error)(nil); !errors.As(second, &e) || e.Code != cli.CodeInput || !strings.Contains(second.Error(), "--look "+strings.TrimPrefix(url, "http://")) {
		t.Errorf("an address that is taken: %v", second)
	}
	broken := errors.New("stdout is gone")
	if err := cli.Serve(ctx, "--look", "127.0.0.1:0", nil, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("where nobody can be told: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("told to stop, it says %v", err)
	}
	if err := cli.Serve(ctx, "--look", "", nil, nil); err != nil {
		t.Errorf("without an address: %v", err)
	}
}
