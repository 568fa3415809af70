package embedded

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ulikunitz/xz"
)

// repository serves one jar as Maven Central would.
type repository struct {
	jar       []byte
	published string // content of the .sha1 file
	jars      atomic.Int64
}

func (r *repository) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	artifact := "embedded-postgres-binaries-" + platforms[runtime.GOOS+"/"+runtime.GOARCH].name
	switch req.URL.Path {
	case "/maven/io/zonky/test/postgres/" + artifact + "/15.18.0/" + artifact + "-15.18.0.jar":
		r.jars.Add(1)
		w.Write(r.jar)
	case "/maven/io/zonky/test/postgres/" + artifact + "/15.18.0/" + artifact + "-15.18.0.jar.sha1":
		io.WriteString(w, r.published)
	default:
		http.NotFound(w, req)
	}
}

type entry struct {
	name, link, content string
}

// postgresJar is a jar of the real layout with shell scripts for programs.
func postgresJar(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var txz bytes.Buffer
	x, err := xz.NewWriter(&txz)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(x)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o755, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), x.Close()); err != nil {
		t.Fatal(err)
	}
	var jar bytes.Buffer
	zw := zip.NewWriter(&jar)
	w, err := zw.Create("postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(txz.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return jar.Bytes()
}

var programs = []entry{
	{name: "bin/postgres", content: "#!/bin/sh\necho 'postgres (PostgreSQL) 15.18'\n"},
	{name: "./bin/initdb", content: "#!/bin/sh\n"},
	{name: "lib/libpq.so.5.15", content: "x"},
	{name: "lib/libpq.so.5", link: "libpq.so.5.15"},
}

// serve starts the repository and lets this platform's pin, for the time of the
// test, be the one of its jar.
func serve(t *testing.T, jar []byte) (*repository, Options) {
	t.Helper()
	key := runtime.GOOS + "/" + runtime.GOARCH
	real, known := platforms[key]
	if !known {
		real.name = "elsewhere"
	}
	sum, old := sha256.Sum256(jar), sha1.Sum(jar)
	platforms[key] = platform{real.name, hex.EncodeToString(sum[:])}
	t.Cleanup(func() { platforms[key] = real })
	r := &repository{jar: jar, published: hex.EncodeToString(old[:]) + "\n"}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	cache, err := ScratchDir(nil, "banyan-cache-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(cache) })
	return r, Options{RepositoryURL: server.URL + "/maven/", CacheDir: cache}
}

func TestFetchUnpacksOnceForAll(t *testing.T) {
	r, o := serve(t, postgresJar(t, programs...))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			b, err := fetch(t.Context(), o)
			if err != nil || b.Version != "15.18" || b.Dir != filepath.Join(o.CacheDir, "postgres-15.18.0", "bin") {
				t.Errorf("fetched %+v, %v", b, err)
			}
		})
	}
	wg.Wait()
	if n := r.jars.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
	if b, err := os.ReadFile(filepath.Join(o.CacheDir, "postgres-15.18.0", "lib", "libpq.so.5")); err != nil || string(b) != "x" {
		t.Errorf("the link leads to %q, %v", b, err)
	}
}

func TestFetchRefusesWhatIsNotAsPublished(t *testing.T) {
	for name, spoil := range map[string]func(*repository){
		"published checksum": func(r *repository) { r.published = strings.Repeat("0", 40) },
		"empty checksum":     func(r *repository) { r.published = "" },
		// Whoever can replace the jar can replace the checksum beside it.
		"pinned checksum": func(r *repository) {
			r.jar = postgresJar(t, programs[:2]...)
			sum := sha1.Sum(r.jar)
			r.published = hex.EncodeToString(sum[:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := serve(t, postgresJar(t, programs...))
			spoil(r)
			if _, err := fetch(t.Context(), o); !errors.Is(err, ErrChecksum) {
				t.Errorf("fetch: %v, want ErrChecksum", err)
			}
			if _, err := os.Stat(filepath.Join(o.CacheDir, "postgres-15.18.0")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it was unpacked all the same: %v", err)
			}
		})
	}
}

func TestFetchWritesNothingOutsideItsFolder(t *testing.T) {
	for name, bad := range map[string][]entry{
		"name": {{name: "../outside", content: "x"}},
		"link": {{name: "bin", link: "../.."}, {name: "bin/outside", content: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, o := serve(t, postgresJar(t, append(bad, programs...)...))
			if _, err := fetch(t.Context(), o); err == nil {
				t.Error("fetched without an error")
			}
			left, err := os.ReadDir(o.CacheDir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				if e.Name() != "embedded.lock" {
					t.Errorf("left behind: %s", e.Name())
				}
			}
		})
	}
}

func TestFetchThatFailsSaysWhatToDo(t *testing.T) {
	_, o := serve(t, nil)
	o.RepositoryURL += "elsewhere"
	_, err := fetch(t.Context(), o)
	if err == nil || !errors.Is(err, ErrNoPostgres) || !strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), "install Postgres") {
		t.Errorf("fetch from an empty repository: %v", err)
	}
}
