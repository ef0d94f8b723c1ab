package xml

// nsRef names a namespace: an index into Scanner.decls, or one of those below, or a prefix of the stream header
// counted down from headerSpace.
type nsRef int

const (
	noSpace     nsRef = -1 - iota // none: attributes without prefix
	streamSpace                   // the stream's default namespace
	xmlSpace                      // NSXML
	unbound                       // the prefix was not declared
	headerSpace
)

// decl is one namespace declaration, as offsets. The default namespace has an empty prefix.
type decl struct {
	prefix, prefixEnd int
	value, valueEnd   int
	space             string // once asked for; set from the begin if the value must be unescaped
}

// declare takes the namespace declaration a.
func (s *Scanner) declare(b []byte, a *attr) step {
	d := decl{value: a.value, valueEnd: a.valueEnd}
	if a.colon > 0 {
		d.prefix, d.prefixEnd = a.colon+1, a.nameEnd
	}
	prefix, value := b[d.prefix:d.prefixEnd], b[d.value:d.valueEnd]
	if len(s.decls) >= s.lim.Decls {
		return s.tooBig("too many namespace declarations")
	}
	if len(value) > s.lim.Name {
		return s.tooBig("namespace name too long")
	}
	if a.flags != 0 {
		s.plain = false // so that nobody who compares bytes is misled
		value = appendUnescaped(nil, value, inAttr)
		d.space = string(value)
	}
	for i := s.cur.decls; i < len(s.decls); i++ {
		if o := &s.decls[i]; string(b[o.prefix:o.prefixEnd]) == string(prefix) {
			return s.fail(NotWellFormed, "namespace prefix declared twice")
		}
	}
	switch {
	case string(prefix) == "xmlns", string(value) == nsXMLNS, (string(prefix) == "xml") != (string(value) == NSXML):
		return s.fail(BadNamespacePrefix, "reserved namespace prefix")
	case len(prefix) > 0 && len(value) == 0:
		return s.fail(BadNamespacePrefix, "namespace prefix without a namespace")
	}
	s.decls = append(s.decls, d)
	if len(prefix) == 0 {
		ref := nsRef(len(s.decls) - 1)
		if len(s.stack) > 0 && s.isContent(b, ref) && s.space(b, s.cur.defaultSpace) == s.space(b, ref) {
			s.plain = false // it would not follow when the stanza is re-scoped
		}
		s.cur.defaultSpace = ref
	}
	return next
}

// resolve finds the namespaces of the tag that was read, now that all its declarations are known.
func (s *Scanner) resolve(b []byte) step {
	c := &s.cur
	c.space = c.defaultSpace
	if c.colon > 0 {
		c.space = s.lookup(b, b[c.name:c.colon])
		switch {
		case c.space == xmlSpace: // Choice: no element is defined there, and none could be written without the prefix
			return s.fail(BadNamespacePrefix, "reserved namespace prefix")
		case c.space == unbound:
			return s.undeclared(b[c.name:c.colon])
		case c.space <= headerSpace, len(s.stack) == 0, s.isContent(b, c.space):
			s.plain = false
		}
	}
	if n := len(s.stack); n > 0 && c.space != s.stack[n-1].space && (c.colon > 0 || int(c.space) < c.decls) {
		if c.colon == 0 {
			s.plain = false // the default namespace shows through a prefixed element, and must not be re-scoped there
		}
		s.grow += len(" xmlns=''") + len(s.space(b, c.space))
	}
	if s.prefixes == 0 {
		return next
	}
	return s.resolveAttrs(b)
}

// resolveAttrs finds the namespaces of the attributes.
func (s *Scanner) resolveAttrs(b []byte) step {
	attrs := s.attrs[s.own:]
	for i := range attrs {
		a := &attrs[i]
		if a.colon == 0 {
			continue
		}
		a.space = s.lookup(b, b[a.name:a.colon])
		switch {
		case a.space == xmlSpace:
		case a.space == unbound:
			return s.undeclared(b[a.name:a.colon])
		case a.space <= headerSpace:
			s.plain = false
			fallthrough
		case int(a.space) < s.cur.decls:
			s.grow += len(" xmlns:ns00=''") + len(s.space(b, a.space))
		}
	}
	if s.prefixes < 2 {
		return next
	}
	for i := range attrs {
		for j := range attrs[:i] {
			x, y := &attrs[i], &attrs[j]
			if x.colon > 0 && y.colon > 0 && s.space(b, x.space) == s.space(b, y.space) &&
				string(b[x.colon+1:x.nameEnd]) == string(b[y.colon+1:y.nameEnd]) {
				return s.fail(NotWellFormed, "attribute given twice")
			}
		}
	}
	return next
}

// undeclared fails for a prefix that is not bound. RFC 6120 §4.9.3.13 shows the condition.
func (s *Scanner) undeclared(prefix []byte) step {
	if string(prefix) == "xmlns" {
		return s.fail(BadNamespacePrefix, "reserved namespace prefix")
	}
	return s.fail(NotWellFormed, "namespace prefix not declared")
}

// lookup returns the namespace that the prefix is bound to.
func (s *Scanner) lookup(b, prefix []byte) nsRef {
	if string(prefix) == "xml" {
		return xmlSpace
	}
	for i := len(s.decls) - 1; i >= 0; i-- {
		if d := &s.decls[i]; d.prefixEnd-d.prefix == len(prefix) && string(b[d.prefix:d.prefixEnd]) == string(prefix) {
			return nsRef(i)
		}
	}
	if s.st.head != nil {
		for i := range s.st.head.binds {
			if s.st.head.binds[i].prefix == string(prefix) {
				return headerSpace - nsRef(i)
			}
		}
	}
	return unbound
}

// isContent tells whether ref is a content namespace, or the one that this stream takes for it.
func (s *Scanner) isContent(b []byte, ref nsRef) bool {
	space := s.space(b, ref)
	return isContent(space) || space == s.st.Space()
}

// space returns the namespace ref as a shared string.
func (s *Scanner) space(b []byte, ref nsRef) string {
	switch {
	case ref >= 0:
		d := &s.decls[ref]
		if d.space == "" {
			d.space = s.shared.intern(b[d.value:d.valueEnd])
		}
		return d.space
	case ref <= headerSpace:
		return s.st.head.binds[headerSpace-ref].space
	case ref == streamSpace:
		return s.st.Space()
	case ref == xmlSpace:
		return NSXML
	}
	return ""
}
