package wal_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banyan/internal/pgtest"
	"banyan/wal"
)

// certificate makes a self-signed one for 127.0.0.1 and returns its files. The
// server, which may run as another user, must be the owner of the key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "wal-tls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		mode := os.FileMode(0o644)
		if name == keyFile && os.Geteuid() == 0 {
			mode = 0o640 // what Postgres allows for a key that belongs to root
		} else if name == keyFile {
			mode = 0o600
		}
		if err := os.WriteFile(name, pem.EncodeToMemory(block), mode); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(name, 0, 65534); err != nil {
				t.Fatal(err)
			}
		}
	}
	return certFile, keyFile
}

// Everything works over TLS, the waking of a sleeping reader included, and the
// server's certificate is checked.
func TestStreamOverTLS(t *testing.T) {
	cert, key := certificate(t)
	srv := pgtest.NewServer(t, pgtest.ServerOptions{
		Settings: map[string]string{"ssl": "on", "ssl_cert_file": cert, "ssl_key_file": key},
		HBA:      "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhostssl all secure 127.0.0.1/32 trust\nhostssl replication secure 127.0.0.1/32 trust\n",
	})
	r := newRig(t, srv.NewDB(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY); CREATE ROLE secure LOGIN REPLICATION`)
	plain := r.db.UserURL("secure", "")
	r.cfg.URL = strings.Replace(plain, "sslmode=disable", "sslmode=verify-full&sslrootcert="+cert, 1)
	s := r.open()
	for range 3 {
		r.exec(`INSERT INTO a SELECT coalesce(max(id), 0) + 1 FROM a`)
		txs := r.upTo(s, 1)
		eventually(t, "the acknowledgement to arrive", func() bool { return r.slot().Confirmed >= txs[0].EndLSN })
	}
	if n := s.Status().Reconnects; n != 0 {
		t.Errorf("%d reconnects", n)
	}
	for name, url := range map[string]string{"without TLS": plain, "with another root": strings.Replace(r.cfg.URL, cert, otherRoot(t), 1)} {
		cfg := r.cfg
		cfg.URL = url
		err := openError(t, cfg)
		t.Logf("%s: %v", name, err)
	}
}

func otherRoot(t *testing.T) string {
	t.Helper()
	cert, _ := certificate(t)
	return cert
}
