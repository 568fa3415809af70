package effects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Outcome is what became of one attempt to send.
type Outcome int

// Outcomes of an attempt.
const (
	// Sent: the receiver has taken it.
	Sent Outcome = iota
	// Again: it was surely not taken, or taking it twice does no harm; later it
	// may be.
	Again
	// Refused: it was not taken and never will be.
	Refused
	// Doubtful: nobody can know whether it was taken.
	Doubtful
)

// String names the outcome as the ledger does.
func (o Outcome) String() string {
	return [...]string{"sent", "again", "refused", "doubtful"}[o]
}

// SMTP says which server takes mails.
type SMTP struct {
	Host           string
	Port           int
	User, Password string // both empty: no login
	// From is the sender where a mail names none.
	From string
	// TLS is "none", "starttls" (the default: required) or "tls" (from the
	// first byte).
	TLS string
	// Timeout of one mail; 30 s where zero.
	Timeout time.Duration
}

// Transport sends mails and calls.
type Transport struct {
	// SMTP is nil where no mail server was named: mails are then kept as failed
	// until there is one.
	SMTP *SMTP
	// Client makes the calls; a client with a timeout of 30 s, which follows no
	// redirect, where nil.
	Client *http.Client
}

// Send makes one attempt. key is the effect's identity, the same for each
// attempt. The error says why, for every outcome but Sent.
func (t *Transport) Send(ctx context.Context, key, kind string, payload []byte) (Outcome, error) {
	switch kind {
	case KindMail:
		var m Mail
		if err := json.Unmarshal(payload, &m); err != nil {
			return Refused, fmt.Errorf("payload of a mail: %w", err)
		}
		return t.mail(ctx, key, &m)
	case KindHTTP:
		var c Call
		if err := json.Unmarshal(payload, &c); err != nil {
			return Refused, fmt.Errorf("payload of a call: %w", err)
		}
		return t.call(ctx, key, &c)
	}
	return Refused, fmt.Errorf("effects of kind %q are not known", kind)
}

// messageID is stable for an effect, so that a mail that went out twice after a
// person said so can be told apart by whoever reads it.
func messageID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + "@banyan"
}

func (t *Transport) mail(ctx context.Context, key string, m *Mail) (Outcome, error) {
	if t.SMTP == nil {
		return Again, errors.New("no mail server is named: set --smtp")
	}
	msg, err := compose(m, t.SMTP.From, key)
	if err != nil {
		return Refused, err
	}
	client, err := t.SMTP.client()
	if err != nil {
		return Again, err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return Again, fmt.Errorf("connect to the mail server: %w", err)
	}
	err = client.Send(msg)
	// The mail is taken, or not, by the answer to its data; what the server says
	// to our goodbye changes nothing.
	_ = client.Close()
	if err == nil {
		return Sent, nil
	}
	var se *gomail.SendError
	if !errors.As(err, &se) {
		return Doubtful, fmt.Errorf("send the mail: %w", err)
	}
	switch code := se.ErrorCode(); {
	case code >= 500:
		return Refused, fmt.Errorf("the mail server refuses: %w", err)
	case code >= 400:
		return Again, fmt.Errorf("the mail server says later: %w", err)
	case se.Reason == gomail.ErrSMTPDataClose || se.Reason == gomail.ErrAmbiguous:
		return Doubtful, fmt.Errorf("the connection broke before the mail server answered: %w", err)
	}
	return Again, fmt.Errorf("send the mail: %w", err)
}

func compose(m *Mail, from, key string) (*gomail.Msg, error) {
	if m.From != "" {
		from = m.From
	}
	msg := gomail.NewMsg()
	if err := msg.From(from); err != nil {
		return nil, fmt.Errorf("sender %q: %w", from, err)
	}
	if err := msg.To(m.To...); err != nil {
		return nil, fmt.Errorf("receivers %q: %w", m.To, err)
	}
	msg.Subject(m.Subject)
	msg.SetMessageIDWithValue(messageID(key))
	msg.SetDate()
	msg.SetBodyString(gomail.TypeTextPlain, m.Body)
	return msg, nil
}

func (s *SMTP) client() (*gomail.Client, error) {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	opts := []gomail.Option{gomail.WithPort(s.Port), gomail.WithTimeout(timeout)}
	switch s.TLS {
	case "none":
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
	case "tls":
		opts = append(opts, gomail.WithSSL())
	case "", "starttls":
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	default:
		return nil, fmt.Errorf("smtp tls %q: want none, starttls or tls", s.TLS)
	}
	if s.User != "" {
		opts = append(opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.User), gomail.WithPassword(s.Password))
	}
	client, err := gomail.NewClient(s.Host, opts...)
	if err != nil {
		return nil, fmt.Errorf("mail server %s: %w", s.Host, err)
	}
	return client, nil
}

// plainClient follows no redirect: an answer elsewhere is no acceptance, and the body of a call is
// not for whoever a redirect names.
var plainClient = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// headerKey writes the identity of an effect as a header can hold it: keys of rows
// may have any character.
func headerKey(key string) string {
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; c < ' ' || c >= 0x7f || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (t *Transport) call(ctx context.Context, key string, c *Call) (Outcome, error) {
	if err := c.Validate(); err != nil {
		return Refused, err
	}
	method := c.Method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL, bytes.NewReader([]byte(c.Body)))
	if err != nil {
		return Refused, fmt.Errorf("make the call: %w", err)
	}
	for k, v := range c.Headers {
		req.Header.Set(k, v)
	}
	if req.Header.Get("Content-Type") == "" && c.Body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Idempotency-Key", headerKey(key))
	// What a URL has behind its host may be a secret, and this is logged.
	to := req.URL.Scheme + "://" + req.URL.Host
	client := t.Client
	if client == nil {
		client = plainClient
	}
	res, err := client.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return Again, fmt.Errorf("call %s %s: %w", method, to, err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	switch code := res.StatusCode; {
	case code < 300:
		return Sent, nil
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code == http.StatusConflict, code >= 500:
		// 409 is what servers answer while the first attempt is still under way.
		return Again, fmt.Errorf("call %s %s: %s", method, to, res.Status)
	}
	return Refused, fmt.Errorf("call %s %s: %s", method, to, res.Status)
}
