package bus

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"banyan/internal/kafkatest"
)

// authority is a certificate authority of the test's own.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// issue writes a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, name+".pem", "CERTIFICATE", der), a.write(t, name+".key", "EC PRIVATE KEY", raw)
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := ca.issue(t, "broker")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	dial := func(cfg *tls.Config) (*Cluster, error) {
		return Dial(t.Context(), Config{Brokers: k.ListenAddrs(), TLS: cfg, RequestTimeout: 2 * time.Second})
	}

	own, err := LoadTLS(ca.file, certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(own)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ensure(t, c, BusinessTopic("t", 1))
	want := sample(10)
	if _, err := c.Produce(t.Context(), "t", 0, want); err != nil {
		t.Fatal(err)
	}
	if d := diff(want, collect(t, c, "t", 0, 0, 10)); d != "" {
		t.Fatal(d)
	}
	// A group has connections of its own.
	joined := false
	if err := c.JoinGroup(t.Context(), quickGroup("g", "t"), func(_ context.Context, parts map[string][]int) error {
		joined = len(parts["t"]) == 1
		return nil
	}); err != nil || !joined {
		t.Error(joined, err)
	}

	other, err := LoadTLS(newAuthority(t).file, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(other); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("an unknown authority gives %v", err)
	}
	bare, _ := LoadTLS(ca.file, "", "")
	if _, err := dial(bare); err == nil {
		t.Error("a client without a certificate is let in")
	}
	var e *Error
	if _, err := dial(nil); !errors.As(err, &e) || e.Permanent() {
		t.Errorf("plain text to a TLS broker gives %v", err)
	}
	plain := kafkatest.New(t)
	if _, err := Dial(t.Context(), Config{Brokers: plain.Addrs, TLS: own, RequestTimeout: 2 * time.Second}); err == nil || !strings.Contains(err.Error(), "does it speak TLS?") {
		t.Errorf("TLS to a plain broker gives %v", err)
	}
}

func TestLoadTLS(t *testing.T) {
	if cfg, err := LoadTLS("", "", ""); cfg != nil || err != nil {
		t.Error(cfg, err)
	}
	ca := newAuthority(t)
	cert, key := ca.issue(t, "c")
	for want, f := range map[string][3]string{
		"holds no PEM certificate":                 {key, "", ""},
		"read the certificates of the brokers":     {"nosuch.pem", "", ""},
		"needs both a cert and a key file":         {"", cert, ""},
		"read the client certificate: tls: failed": {"", key, cert},
	} {
		if _, err := LoadTLS(f[0], f[1], f[2]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want one that says %q", err, want)
		}
	}
}
