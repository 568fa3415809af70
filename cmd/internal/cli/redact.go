package cli

import "regexp"

// Redact takes passwords out of a text that is going to be printed or stored:
// an error may quote the URL that it was given.
func Redact(s string) string {
	s = unreadableURL.ReplaceAllString(s, "cannot parse it")
	s = passwordInURL.ReplaceAllString(s, "${1}:xxxxx@")
	s = passwordPart.ReplaceAllString(s, "${1}\"xxxxx\"")
	return passwordInDSN.ReplaceAllString(s, "${1}xxxxx")
}

var (
	// A URL that cannot be read: nobody knows where its password begins or ends.
	unreadableURL = regexp.MustCompile("(?s)cannot parse `.*`")
	passwordInURL = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^:/?#\s@"]*):[^\s/"]*@`)
	// Of a password that is not percent-encoded, a part is taken for a port.
	passwordPart  = regexp.MustCompile(`(invalid port |invalid URL escape )"(?:[^"\\]|\\.)*"`)
	passwordInDSN = regexp.MustCompile(`(?i)(password\s*=\s*)('[^']*'|[^\s'&]+)`)
)
