package embedded

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/ulikunitz/xz"
)

// fetchedVersion is the Postgres that is fetched when the machine has none.
const fetchedVersion = "15.18.0"

const mavenCentral = "https://repo1.maven.org/maven2"

// platform names the artifact of a system, and its SHA-256 where we have looked
// at it ourselves; for the others the checksum published beside it must do.
type platform struct{ name, sha256 string }

var platforms = map[string]platform{
	"linux/amd64":  {"linux-amd64", "6490649298abbe834a969b57df53e66e056f76894054a8f32f7a56f33abe0087"},
	"linux/arm64":  {"linux-arm64v8", ""},
	"darwin/amd64": {"darwin-amd64", "bf4ca4521474ab0ef31672de5e48f194a423770f1f668b0356bb69e166253707"},
	"darwin/arm64": {"darwin-arm64v8", ""},
}

// ErrChecksum says that a download is not what was published. Nothing of it was
// unpacked.
var ErrChecksum = errors.New("checksum differs")

// Locate finds a Postgres on the machine or, if there is none, fetches one into
// the cache. It is what Start does when Options.BinDir is empty.
func Locate(ctx context.Context, o Options) (Binaries, error) { return locate(ctx, o, 0) }

// locate wants the given major version, 0 for any.
func locate(ctx context.Context, o Options, major int) (Binaries, error) {
	if o.BinDir != "" {
		b, err := ReadBinaries(o.BinDir)
		if err == nil && major != 0 && b.Major != major {
			err = fmt.Errorf("%s holds Postgres %s, but the data were made by %d", o.BinDir, b.Version, major)
		}
		return b, err
	}
	b, err := findPostgres(major)
	if err == nil {
		return b, nil
	}
	if fetched := fetchedVersion[:strings.IndexByte(fetchedVersion, '.')]; major != 0 && fetched != fmt.Sprint(major) {
		return Binaries{}, fmt.Errorf("the data were made by Postgres %d, which is no longer on this machine: install it, or name its programs", major)
	}
	return fetch(ctx, o)
}

func fetch(ctx context.Context, o Options) (Binaries, error) {
	pf, known := platforms[runtime.GOOS+"/"+runtime.GOARCH]
	if !known {
		return Binaries{}, fmt.Errorf("%w, and none to fetch for %s/%s: install Postgres", ErrNoPostgres, runtime.GOOS, runtime.GOARCH)
	}
	cache, err := cacheDir(o)
	if err != nil {
		return Binaries{}, err
	}
	dir := filepath.Join(cache, "postgres-"+fetchedVersion)
	if b, err := ReadBinaries(filepath.Join(dir, "bin")); err == nil {
		return b, nil
	}
	unlock, err := lockDir(ctx, cache)
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	if b, err := ReadBinaries(filepath.Join(dir, "bin")); err == nil {
		return b, nil // another process was faster
	}
	if o.Log != nil {
		o.Log.Info("fetching Postgres", "version", fetchedVersion, "into", dir)
	}
	jar, err := download(ctx, o, pf)
	if err != nil {
		return Binaries{}, fmt.Errorf("%w; fetch one: %w; or install Postgres yourself", ErrNoPostgres, err)
	}
	work, err := os.MkdirTemp(cache, "unpack-")
	if err != nil {
		return Binaries{}, fmt.Errorf("make a directory to unpack in: %w", err)
	}
	defer os.RemoveAll(work)
	if err := unpack(jar, work); err != nil {
		return Binaries{}, fmt.Errorf("unpack Postgres: %w", err)
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return Binaries{}, fmt.Errorf("open the unpacked Postgres: %w", err)
	}
	if _, err := ReadBinaries(filepath.Join(work, "bin")); err != nil {
		return Binaries{}, fmt.Errorf("the fetched Postgres does not run here: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil { // of no use, or it had been taken above
		return Binaries{}, fmt.Errorf("make room for Postgres: %w", err)
	}
	if err := os.Rename(work, dir); err != nil {
		return Binaries{}, fmt.Errorf("keep Postgres: %w", err)
	}
	return ReadBinaries(filepath.Join(dir, "bin"))
}

// cacheDir is the user's cache; root's lies behind a closed folder that the
// server's user cannot enter, so root uses the system's.
func cacheDir(o Options) (string, error) {
	dir := o.CacheDir
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil && DropRoot() == nil {
			return "", fmt.Errorf("find the cache directory: %w", err)
		}
		dir = filepath.Join(base, "banyan")
		if err != nil || ReachableBy(DropRoot(), dir) != nil {
			dir = "/var/cache/banyan"
		}
	}
	if err := makeDir(dir); err != nil {
		return "", err
	}
	return dir, ReachableBy(DropRoot(), dir)
}

// download returns the checked jar. Where plain HTTPS does not get through but
// Maven is set up to (mirrors, proxies), Maven fetches it.
func download(ctx context.Context, o Options, pf platform) ([]byte, error) {
	base := o.RepositoryURL
	if base == "" {
		base = mavenCentral
	}
	artifact := "embedded-postgres-binaries-" + pf.name
	url := fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%s-%s.jar", strings.TrimRight(base, "/"), artifact, fetchedVersion, artifact, fetchedVersion)
	jar, err := get(ctx, url)
	if err != nil {
		jar, mvnErr := downloadWithMaven(ctx, o, artifact)
		if mvnErr != nil {
			return nil, errors.Join(err, mvnErr)
		}
		// Maven has compared it with the published checksum.
		return jar, pf.check(jar)
	}
	published, err := get(ctx, url+".sha1")
	if err != nil {
		return nil, fmt.Errorf("get the published checksum: %w", err)
	}
	sum := sha1.Sum(jar) // Maven Central promises no other
	if want, got := string(bytes.TrimSpace(published)), hex.EncodeToString(sum[:]); !strings.HasPrefix(want, got) {
		return nil, fmt.Errorf("%s: %w: SHA-1 is %s, published %.40s", url, ErrChecksum, got, want)
	}
	return jar, pf.check(jar)
}

func (pf platform) check(jar []byte) error {
	sum := sha256.Sum256(jar)
	if got := hex.EncodeToString(sum[:]); pf.sha256 != "" && got != pf.sha256 {
		return fmt.Errorf("Postgres for %s: %w: SHA-256 is %s, want %s", pf.name, ErrChecksum, got, pf.sha256)
	}
	return nil
}

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", url, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 200<<20))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	return b, nil
}

func downloadWithMaven(ctx context.Context, o Options, artifact string) ([]byte, error) {
	if o.RepositoryURL != "" {
		return nil, errors.New("Maven is not asked when a repository is named")
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return nil, fmt.Errorf("fall back to Maven: %w", err)
	}
	work, err := os.MkdirTemp("", "banyan-maven-")
	if err != nil {
		return nil, fmt.Errorf("fall back to Maven: %w", err)
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, mvn, "-B", "-q", "-C", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
		"-Dartifact=io.zonky.test.postgres:"+artifact+":"+fetchedVersion, "-DoutputDirectory="+work)
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("fall back to Maven: %w\n%s", err, out)
	}
	jar, err := os.ReadFile(filepath.Join(work, artifact+"-"+fetchedVersion+".jar"))
	if err != nil {
		return nil, fmt.Errorf("fall back to Maven: %w", err)
	}
	return jar, nil
}

// unpack takes the one .txz out of the jar and its files out of that.
func unpack(jar []byte, dir string) error {
	z, err := zip.NewReader(bytes.NewReader(jar), int64(len(jar)))
	if err != nil {
		return err
	}
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".txz") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		x, err := xz.NewReader(r)
		if err != nil {
			return err
		}
		return untar(tar.NewReader(x), dir)
	}
	return errors.New("the jar holds no .txz")
}

// untar writes only inside dir: os.Root refuses names and links that lead out.
func untar(t *tar.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		if parent := filepath.Dir(name); parent != "." {
			if err := root.MkdirAll(parent, 0o755); err != nil {
				return err
			}
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeLink:
			err = root.Link(filepath.Clean(h.Linkname), name)
		case tar.TypeReg:
			err = writeFrom(root, name, t, h.FileInfo().Mode().Perm())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func writeFrom(root *os.Root, name string, r io.Reader, mode os.FileMode) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
