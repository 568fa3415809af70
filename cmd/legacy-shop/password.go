package main

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// passwordRounds is what the shop could afford when it was built; the number
// stands in each hash, so that it can grow.
const passwordRounds = 100_000

// hashPassword gives a salted PBKDF2 hash that names its own parameters. An
// empty password gives an empty hash: the account was opened by staff.
func hashPassword(password string) (string, error) {
	if password == "" {
		return "", nil
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("salt password: %w", err)
	}
	key, err := pbkdf2.Key(sha256.New, password, salt, passwordRounds, 32)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	enc := base64.RawStdEncoding
	return fmt.Sprintf("pbkdf2-sha256$%d$%s$%s", passwordRounds, enc.EncodeToString(salt), enc.EncodeToString(key)), nil
}
