"""One module per service: any module here that defines INTEGRATION is an integration."""
