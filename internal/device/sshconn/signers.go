package sshconn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"capfleet/internal/fault"
)

// keyIdle is how long a parsed private key stays in memory after its last use.
// Deriving the key of an encrypted file takes a tenth of a second of CPU by
// design: done for each device of a fleet it would be most of the work.
const keyIdle = 2 * time.Minute

// Sign implements ssh.Signer.
func (s *noteSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	sig, err := s.MultiAlgorithmSigner.Sign(rand, data)
	s.note(err)
	return sig, err
}

// SignWithAlgorithm implements ssh.AlgorithmSigner.
func (s *noteSigner) SignWithAlgorithm(rand io.Reader, data []byte, alg string) (*ssh.Signature, error) {
	sig, err := s.MultiAlgorithmSigner.SignWithAlgorithm(rand, data, alg)
	s.note(err)
	return sig, err
}

// prepare resolves an endpoint's secrets. It runs before anything is connected,
// and what fails here is Invalid, as trying again cannot help; only a command that
// does not end is a Timeout. The returned func closes the agent's connection.
func (d *Dialer) prepare(ctx context.Context, ep endpoint) (*login, func(), error) {
	l := &login{ep: ep}
	invalid := func(err error, next string) error {
		if ctx.Err() != nil {
			return ep.ended(ctx, stageCredentials)
		}
		kind := fault.Invalid
		if errors.Is(err, context.DeadlineExceeded) {
			kind = fault.Timeout
		}
		return ep.fail(kind, stageCredentials, fmt.Errorf("credentials %s: %w", ep.creds.Name, err), next)
	}
	if ep.creds.Username == "" {
		return nil, nil, invalid(errors.New("there is no user name"), "give the credentials a username")
	}
	var signers []ssh.Signer
	if !ep.creds.PrivateKey.IsZero() {
		key, err := d.privateKey(ctx, ep)
		if err != nil {
			return nil, nil, invalid(err, "check the private key and its passphrase in the inventory")
		}
		signers = append(signers, key)
	}
	if !ep.creds.Certificate.IsZero() {
		certified, err := d.certificate(ctx, ep, signers)
		if err != nil {
			return nil, nil, invalid(err, "check the certificate in the inventory")
		}
		// As OpenSSH's client does: the certificate first, then the key by itself.
		signers = append([]ssh.Signer{certified}, signers...)
	}
	if !ep.creds.Password.IsZero() {
		password, err := d.secrets.Resolve(ctx, ep.creds.Password)
		if err != nil {
			return nil, nil, invalid(err, "provide the password where the inventory says it is")
		}
		l.password = password
	}
	closeAgent := func() {}
	if ep.creds.Agent {
		fromAgent, done, err := agentSigners(ctx)
		if err != nil {
			return nil, nil, invalid(err, "start an agent, add the key, and set SSH_AUTH_SOCK for fleetd")
		}
		closeAgent = done
		signers = append(signers, fromAgent...)
	}
	if len(signers) == 0 && l.password.Empty() {
		closeAgent()
		return nil, nil, invalid(errors.New("there is no secret to log in with"), "add a password, a private_key or agent: true")
	}
	seen := map[string]bool{}
	for _, s := range signers {
		if blob := string(s.PublicKey().Marshal()); !seen[blob] {
			seen[blob] = true
			l.signers = append(l.signers, &noteSigner{l.restrict(s), l})
		}
	}
	return l, closeAgent, nil
}

// restrict takes SHA-1 signatures from an RSA key unless the device is allowed
// old algorithms.
func (l *login) restrict(s ssh.Signer) ssh.MultiAlgorithmSigner {
	algs := []string{certifiedType(s.PublicKey().Type())}
	if algs[0] == ssh.KeyAlgoRSA {
		algs = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		if l.ep.ssh.LegacyAlgorithms {
			algs = append(algs, ssh.KeyAlgoRSA)
		}
	}
	if as, ok := s.(ssh.AlgorithmSigner); ok {
		if ms, err := ssh.NewSignerWithAlgorithms(as, algs); err == nil {
			return ms
		}
	}
	return plainSigner{s, algs[:1]}
}

// certifiedType is the type of the key inside a certificate of the given type; a
// plain key's type is its own.
func certifiedType(keyType string) string {
	const cert, vendor = "-cert-v01@openssh.com", "@openssh.com"
	bare, ok := strings.CutSuffix(keyType, cert)
	if ok && strings.HasPrefix(bare, "sk-") {
		return bare + vendor
	}
	return bare
}

// plainSigner is a signer that knows one algorithm only.
type plainSigner struct {
	ssh.Signer
	algs []string
}

func (s plainSigner) Algorithms() []string { return s.algs }

func (s plainSigner) SignWithAlgorithm(rand io.Reader, data []byte, alg string) (*ssh.Signature, error) {
	if alg != s.algs[0] {
		return nil, fmt.Errorf("the key cannot sign with %s", alg)
	}
	return s.Sign(rand, data)
}

// privateKey gives the signer of the endpoint's key.
func (d *Dialer) privateKey(ctx context.Context, ep endpoint) (ssh.Signer, error) {
	pem, err := d.secrets.Resolve(ctx, ep.creds.PrivateKey)
	if err != nil {
		return nil, err
	}
	var passphrase []byte
	if !ep.creds.Passphrase.IsZero() {
		p, err := d.secrets.Resolve(ctx, ep.creds.Passphrase)
		if err != nil {
			return nil, fmt.Errorf("passphrase: %w", err)
		}
		passphrase = []byte(p.Reveal())
	}
	signer, err := d.keys.get(ctx, []byte(pem.Reveal()), passphrase)
	if err != nil {
		return nil, fmt.Errorf("private key in %s: %w", ep.creds.PrivateKey, err)
	}
	return signer, nil
}

// keyCache keeps parsed private keys for a while, so that a key is decrypted
// once and not once for each device.
type keyCache struct {
	mu   sync.Mutex
	keys map[[32]byte]*cachedKey
	wg   sync.WaitGroup
}

type cachedKey struct {
	ready  chan struct{} // closed when signer and err are set
	signer ssh.Signer
	err    error
	drop   *time.Timer
}

func (c *keyCache) get(ctx context.Context, pem, passphrase []byte) (ssh.Signer, error) {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d\n", len(pem))
	_, _ = h.Write(pem)
	_, _ = h.Write(passphrase)
	id := [32]byte(h.Sum(nil))

	c.mu.Lock()
	if c.keys == nil {
		c.keys = map[[32]byte]*cachedKey{}
	}
	key := c.keys[id]
	if key == nil {
		key = &cachedKey{ready: make(chan struct{})}
		key.drop = time.AfterFunc(keyIdle, func() {
			c.mu.Lock()
			delete(c.keys, id)
			c.mu.Unlock()
		})
		c.keys[id] = key
		c.wg.Go(func() {
			key.signer, key.err = parsePrivateKey(pem, passphrase)
			close(key.ready)
		})
	} else {
		key.drop.Reset(keyIdle)
	}
	c.mu.Unlock()

	select {
	case <-key.ready:
		return key.signer, key.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// forget drops all keys and waits for parsing to end.
func (c *keyCache) forget() {
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, key := range c.keys {
		key.drop.Stop()
		delete(c.keys, id)
	}
}

func parsePrivateKey(pem, passphrase []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(pem)
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); !encrypted {
		if err != nil {
			return nil, errors.New("it is not a private key that can be read (OpenSSH or PEM)")
		}
		return signer, nil
	}
	if len(passphrase) == 0 {
		return nil, errors.New("it is encrypted and there is no passphrase")
	}
	signer, err = ssh.ParsePrivateKeyWithPassphrase(pem, passphrase)
	if err != nil {
		return nil, errors.New("the passphrase does not open it")
	}
	return signer, nil
}

// agentSigners lists the agent's keys. The connection stays open for signing
// until the returned func closes it; ctx closes it too.
func agentSigners(ctx context.Context) ([]ssh.Signer, func(), error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, nil, errors.New("agent is set, but SSH_AUTH_SOCK names no agent")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, fmt.Errorf("reach the agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	done := func() {
		stop()
		_ = conn.Close()
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("list the agent's keys: %w", err)
	}
	if len(signers) == 0 {
		done()
		return nil, nil, errors.New("the agent holds no key")
	}
	return signers, done, nil
}
